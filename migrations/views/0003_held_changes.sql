SELECT
    t.id,
    t.way,
    t.subject,
    s.label AS subject_label,
    t.relation,
    r.label AS relation_label,
    t.value AS object,
    COALESCE(v.label, t.value) AS object_label,
    t.reason,
    t.detail,
    t.since AS changed_at,
    t.until AS waits_until,
    t.first_run,
    t.opened_at AS held_at
FROM trust_verdicts t
LEFT JOIN entities s ON s.id = t.subject
LEFT JOIN entities r ON r.id = t.relation
LEFT JOIN entities v ON v.id = t.value AND t.value_kind = 'item'
WHERE t.closed_at IS NULL AND NOT t.passed
