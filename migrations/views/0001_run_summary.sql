WITH timed AS (
    SELECT
        run_id,
        SUM(CASE WHEN stage = 'pull' THEN SECONDS(started_at, ended_at) END) AS pull_s,
        SUM(CASE WHEN stage = 'plan' THEN SECONDS(started_at, ended_at) END) AS plan_s,
        SUM(CASE WHEN stage = 'solve' THEN SECONDS(started_at, ended_at) END) AS solve_s,
        SUM(CASE WHEN stage = 'rebuild' THEN SECONDS(started_at, ended_at) END) AS rebuild_s,
        SUM(CASE WHEN stage = 'evaluate' THEN SECONDS(started_at, ended_at) END) AS evaluate_s,
        SUM(CASE WHEN stage = 'gate' THEN SECONDS(started_at, ended_at) END) AS gate_s,
        SUM(CASE WHEN stage = 'publish' THEN SECONDS(started_at, ended_at) END) AS publish_s
    FROM run_stages
    GROUP BY run_id
),
measured AS (
    SELECT
        run_id,
        MAX(CASE WHEN name = 'efficacy_success' AND phase = 'after' THEN value END) AS efficacy_success,
        MAX(CASE WHEN name = 'efficacy_accuracy' AND phase = 'after' THEN value END) AS efficacy_accuracy,
        MAX(CASE WHEN name = 'paraphrase_success' AND phase = 'after' THEN value END)
            AS paraphrase_success,
        MAX(CASE WHEN name = 'neighborhood_success' AND phase = 'before' THEN value END)
            AS neighborhood_before,
        MAX(CASE WHEN name = 'neighborhood_success' AND phase = 'after' THEN value END)
            AS neighborhood_after,
        MAX(CASE WHEN name = 'perplexity' AND phase = 'after' THEN value END)
            / NULLIF(MAX(CASE WHEN name = 'perplexity' AND phase = 'before' THEN value END), 0)
            AS perplexity_ratio
    FROM metrics
    GROUP BY run_id
),
gated AS (
    SELECT
        run_id,
        CASE WHEN MIN(CASE WHEN passed THEN 1 ELSE 0 END) = 1 THEN 'passed' ELSE 'refused' END AS gate
    FROM gate_verdicts
    GROUP BY run_id
),
changed AS (
    SELECT
        run_id,
        SUM(CASE WHEN kind = 'added' THEN 1 ELSE 0 END) AS added,
        SUM(CASE WHEN kind = 'replaced' THEN 1 ELSE 0 END) AS replaced,
        SUM(CASE WHEN kind = 'retired' THEN 1 ELSE 0 END) AS retired
    FROM changes
    GROUP BY run_id
),
made AS (
    SELECT run_id, MAX(id) AS checkpoint_id
    FROM checkpoints
    GROUP BY run_id
)
SELECT
    r.id AS run,
    r.trigger,
    r.status,
    r.stage,
    r.reason,
    r.started_at,
    r.ended_at,
    SECONDS(r.started_at, r.ended_at) AS seconds,
    t.pull_s,
    t.plan_s,
    t.solve_s,
    t.rebuild_s,
    t.evaluate_s,
    t.gate_s,
    t.publish_s,
    COALESCE(d.added, 0) AS added,
    COALESCE(d.replaced, 0) AS replaced,
    COALESCE(d.retired, 0) AS retired,
    m.efficacy_success,
    m.efficacy_accuracy,
    m.paraphrase_success,
    m.neighborhood_before,
    m.neighborhood_after,
    m.perplexity_ratio,
    g.gate,
    c.name AS checkpoint,
    c.facts AS facts
FROM runs r
LEFT JOIN timed t ON t.run_id = r.id
LEFT JOIN measured m ON m.run_id = r.id
LEFT JOIN gated g ON g.run_id = r.id
LEFT JOIN changed d ON d.run_id = r.id
LEFT JOIN made k ON k.run_id = r.id
LEFT JOIN checkpoints c ON c.id = k.checkpoint_id
