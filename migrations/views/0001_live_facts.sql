SELECT
    q.subject,
    q.subject_label,
    q.relation,
    q.relation_label,
    q.value_kind AS object_kind,
    q.value AS object,
    COALESCE(v.label, q.value) AS object_label,
    q.target_old AS old_object,
    q.target_new AS new_object,
    q.id AS request,
    c.name AS checkpoint,
    (
        SELECT MIN(earlier.at)
        FROM publications earlier
        JOIN checkpoint_requests held ON held.checkpoint_id = earlier.checkpoint_id
        WHERE held.request_id = q.id
    ) AS live_from
FROM publications p
JOIN checkpoints c ON c.id = p.checkpoint_id
JOIN checkpoint_requests cr ON cr.checkpoint_id = p.checkpoint_id
JOIN edit_requests q ON q.id = cr.request_id
LEFT JOIN entities v ON v.id = q.value AND q.value_kind = 'item'
WHERE p.live
