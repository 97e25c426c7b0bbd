SELECT
    d.id AS divergence,
    d.run_id AS run,
    d.at,
    d.relation,
    r.label AS relation_label,
    d.kind,
    d.subject,
    s.label AS subject_label,
    d.statement_id AS statement,
    d.was,
    COALESCE(w.label, d.was) AS was_label,
    d.found,
    COALESCE(f.label, d.found) AS found_label
FROM divergent d
LEFT JOIN entities r ON r.id = d.relation
LEFT JOIN entities s ON s.id = d.subject
LEFT JOIN entities w ON w.id = d.was
LEFT JOIN entities f ON f.id = d.found
