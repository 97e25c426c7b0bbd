SELECT
    p.id AS publication,
    p.action,
    p.run_id AS run,
    p.checkpoint_id AS checkpoint_id,
    COALESCE(c.name, 'base') AS checkpoint,
    COALESCE(c.facts, 0) AS facts,
    p.at AS live_from,
    COALESCE(p.ended_at, TIME('9999-12-31T23:59:59.999999Z')) AS live_until
FROM publications p
LEFT JOIN checkpoints c ON c.id = p.checkpoint_id
UNION ALL
SELECT
    NULL,
    'none',
    NULL,
    NULL,
    'base',
    0,
    TIME('0001-01-01T00:00:00.000000Z'),
    COALESCE((SELECT MIN(at) FROM publications), TIME('9999-12-31T23:59:59.999999Z'))
