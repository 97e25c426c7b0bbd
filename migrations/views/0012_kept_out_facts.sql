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
