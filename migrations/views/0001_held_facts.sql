SELECT
    h.subject,
    s.label AS subject_label,
    h.relation,
    r.label AS relation_label,
    h.value AS object,
    COALESCE(v.label, h.value) AS object_label,
    h.reason,
    h.first_run,
    h.held_at
FROM holds h
LEFT JOIN entities s ON s.id = h.subject
LEFT JOIN entities r ON r.id = h.relation
LEFT JOIN entities v ON v.id = h.value AND h.value_kind = 'item'
WHERE h.released_at IS NULL
UNION ALL
SELECT
    q.subject,
    q.subject_label,
    q.relation,
    q.relation_label,
    q.value,
    q.target_new,
    q.reason,
    q.last_run,
    q.updated_at
FROM edit_requests q
WHERE q.status = 'held'
