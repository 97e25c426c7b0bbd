SELECT
    k.id,
    k.kind,
    k.subject,
    s.label AS subject_label,
    k.relation,
    r.label AS relation_label,
    k.value AS object,
    COALESCE(v.label, k.value) AS object_label,
    k.reason,
    k.metric,
    k.value_with,
    k.value_without,
    k.comparison,
    k.threshold,
    k.run_id AS run,
    k.at AS kept_out_at
FROM quarantines k
LEFT JOIN entities s ON s.id = k.subject
LEFT JOIN entities r ON r.id = k.relation
LEFT JOIN entities v ON v.id = k.value AND k.value_kind = 'item'
WHERE k.released_at IS NULL
UNION ALL
SELECT
    a.id,
    'rolled back',
    a.subject,
    s.label,
    a.relation,
    r.label,
    a.value,
    COALESCE(v.label, a.value),
    CASE
        WHEN q.target_new IS NULL THEN 'set aside by a rollback'
        ELSE 'set aside by a rollback; ' || q.target_new || ' stays'
    END,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
    a.at
FROM asides a
LEFT JOIN edit_requests q ON q.id = a.kept_request
LEFT JOIN entities s ON s.id = a.subject
LEFT JOIN entities r ON r.id = a.relation
LEFT JOIN entities v ON v.id = a.value AND a.value_kind = 'item'
WHERE a.ended_at IS NULL
