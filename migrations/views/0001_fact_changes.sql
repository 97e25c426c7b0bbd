SELECT
    c.id AS change,
    c.run_id AS run,
    c.at,
    c.kind,
    c.subject,
    s.label AS subject_label,
    c.relation,
    r.label AS relation_label,
    c.old_value AS old_object,
    COALESCE(o.label, c.old_value) AS old_label,
    c.new_value AS new_object,
    COALESCE(n.label, c.new_value) AS new_label,
    c.statement_id AS statement,
    c.reason,
    c.outcome
FROM changes c
LEFT JOIN entities s ON s.id = c.subject
LEFT JOIN entities r ON r.id = c.relation
LEFT JOIN entities o ON o.id = c.old_value AND c.old_kind = 'item'
LEFT JOIN entities n ON n.id = c.new_value AND c.new_kind = 'item'
