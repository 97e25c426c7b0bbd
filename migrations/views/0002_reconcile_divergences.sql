SELECT
    c.run_id AS run,
    c.ended_at AS at,
    c.relation,
    r.label AS relation_label,
    c.outcome,
    c.reason,
    c.subjects,
    c.statements,
    d.kind,
    d.count AS divergences
FROM reconciles c
JOIN divergences d ON d.run_id = c.run_id AND d.relation = c.relation
LEFT JOIN entities r ON r.id = c.relation
