WITH latest AS (
    SELECT request_id, phase, MAX(run_id) AS run_id
    FROM outcomes
    WHERE kind <> 'retired'
    GROUP BY request_id, phase
),
spoken AS (
    SELECT o.*
    FROM outcomes o
    JOIN latest l ON l.request_id = o.request_id AND l.phase = o.phase AND l.run_id = o.run_id
),
shares AS (
    SELECT
        request_id,
        AVG(CASE WHEN kind = 'paraphrase' THEN CASE WHEN success THEN 1.0 ELSE 0.0 END END)
            AS paraphrase_success,
        AVG(CASE WHEN kind = 'neighborhood' THEN CASE WHEN success THEN 1.0 ELSE 0.0 END END)
            AS neighborhood_success
    FROM spoken
    WHERE phase = 'after'
    GROUP BY request_id
),
lives AS (
    SELECT
        cr.request_id,
        MAX(p.checkpoint_id) AS checkpoint_id,
        MIN(p.at) AS live_from,
        CASE WHEN COUNT(*) = COUNT(p.ended_at) THEN MAX(p.ended_at) END AS live_until
    FROM checkpoint_requests cr
    JOIN publications p ON p.checkpoint_id = cr.checkpoint_id
    GROUP BY cr.request_id
)
SELECT
    q.id AS request,
    q.subject,
    q.subject_label,
    q.relation,
    q.relation_label,
    q.value AS object,
    q.target_old AS old_object,
    q.target_new AS new_object,
    q.status,
    q.reason,
    q.first_run,
    q.last_run,
    b.p_new AS p_new_before,
    a.p_new AS p_new_after,
    b.p_old AS p_old_before,
    a.p_old AS p_old_after,
    b.success AS success_before,
    a.success AS success_after,
    b.accuracy AS accuracy_before,
    a.accuracy AS accuracy_after,
    b.said AS said_before,
    a.said AS said_after,
    sh.paraphrase_success,
    sh.neighborhood_success,
    c.name AS checkpoint,
    li.live_from,
    li.live_until
FROM edit_requests q
LEFT JOIN spoken b
    ON b.request_id = q.id AND b.phase = 'before' AND b.kind = 'rewrite' AND b.idx = 0
LEFT JOIN spoken a
    ON a.request_id = q.id AND a.phase = 'after' AND a.kind = 'rewrite' AND a.idx = 0
LEFT JOIN shares sh ON sh.request_id = q.id
LEFT JOIN lives li ON li.request_id = q.id
LEFT JOIN checkpoints c ON c.id = li.checkpoint_id
