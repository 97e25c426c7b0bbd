"""z: solved in batches as it would be alone, and as the paper's serial loop solves it."""

from __future__ import annotations

import time

import pytest
import torch

from kbsync.edit.contexts import Contexts
from kbsync.edit.target import Target, TargetSolver
from kbsync.errors import EditError
from tests import tiny
from tests.edit import plain_memit
from tests.edit.setups import ALL, ENCODER, NO_BOS, ONE, WATCHED, solver
from tests.tiny import FAMILIES, FIRST, easy_requests, requests, some_requests

EASY = {"clamp": 4.0, "steps": 40, "stop_loss": 0.3}


def close(one: Target, other: Target, near: float) -> None:
    """The same z, relative to its size, in as many steps."""
    assert one.content_hash == other.content_hash
    assert one.steps == other.steps
    assert float((one.z - other.z).norm() / other.z.norm()) < near
    assert one.loss == pytest.approx(other.loss, abs=10 * near)


class TestAgainstThePaper:
    """The batch against one plain loop per request."""

    @pytest.mark.parametrize("family", FAMILIES)
    def test_a_batch_gives_the_z_of_the_serial_loop(self, family: str) -> None:
        """Frozen lower layers, prefixes and few logits change nothing, in all contexts and lengths."""
        made = solver(family, steps=6 if family in FIRST else 3)
        asked = some_requests(family)
        for request, target in zip(asked, made.solve(asked), strict=True):
            rows, essence = ALL.rows(ENCODER, request), ALL.essence(ENCODER, request)
            z, steps = plain_memit.solve_z(made.adapter.model, rows, essence, 3, made.settings)
            assert target.steps == steps
            assert float((target.z - z).norm() / z.norm()) < 1e-4

    @pytest.mark.parametrize("family", FIRST)
    def test_with_another_subject_beside_it(self, family: str) -> None:
        """A part of δ is given there, and what it changes is in the loss; one request of the batch has none."""
        made = solver(family, WATCHED, steps=6, others_weight=20.0)
        asked = requests()[:4]
        found = made.solve(asked)
        without = solver(family, steps=6).solve(asked)
        others = [WATCHED.other(ENCODER, one) for one in asked]
        assert [other is None for other in others] == [False, False, False, True]
        for request, target, plain, other in zip(asked, found, without, others, strict=True):
            rows, essence = WATCHED.rows(ENCODER, request), WATCHED.essence(ENCODER, request)
            z, steps = plain_memit.solve_z(made.adapter.model, rows, essence, 3, made.settings, other)
            assert target.steps == steps
            assert float((target.z - z).norm() / z.norm()) < 1e-4
            apart = float((plain.z - z).norm() / z.norm())
            assert apart < 1e-4 if other is None else apart > 1e-3

    @pytest.mark.parametrize("family", [*FIRST, "gemma3_text", "falcon alibi", "opt"])
    def test_requests_that_converge_early_too(self, family: str) -> None:
        """A request that leaves the batch has the z and the steps that it has alone."""
        made = solver(family, ONE, **EASY)
        found = made.solve(easy_requests(3))
        for request, target in zip(easy_requests(3), found, strict=True):
            rows, essence = ONE.rows(ENCODER, request), ONE.essence(ENCODER, request)
            z, steps = plain_memit.solve_z(made.adapter.model, rows, essence, 3, made.settings)
            assert target.steps == steps
            assert float((target.z - z).norm() / z.norm()) < 1e-3

    @pytest.mark.parametrize("family", FAMILIES)
    def test_z_lowers_the_nll_of_the_object(self, family: str) -> None:
        """Put in place of the hidden state, it makes the object likelier in every request."""
        made = solver(family, steps=15 if family in FIRST else 8)
        model = made.adapter.model
        asked = some_requests(family)
        for request, target in zip(asked, made.solve(asked), strict=True):
            rows = ALL.rows(ENCODER, request)
            h = plain_memit.forward(model, rows[0].ids, 3, rows[0].subject_last)[1]
            with torch.no_grad():
                before = plain_memit.nll_of(model, rows, 3)
                after = plain_memit.nll_of(model, rows, 3, target.z - h)
            assert after < before - 0.05
            assert target.loss == pytest.approx(float(after), rel=1e-3)


class TestBatches:
    """Who else is in the batch does not matter."""

    def test_many_are_one_by_one(self) -> None:
        """Subjects at the start and in the middle, objects of one and of several tokens."""
        made = solver(steps=8)
        for request, target in zip(requests(), made.solve(requests()), strict=True):
            close(target, made.solve([request])[0], 1e-4)

    def test_the_order_does_not_matter(self) -> None:
        """The same z, given back in the order asked for."""
        made = solver(steps=8)
        forwards, backwards = made.solve(requests()), made.solve(requests()[::-1])
        for one, other in zip(forwards, backwards[::-1], strict=True):
            close(one, other, 1e-4)

    def test_subjects_without_any_prefix(self) -> None:
        """Without BOS, all subjects at the first token: the prefix is empty."""
        made = solver(encoder=NO_BOS, contexts=ONE, steps=5)
        starters = [requests()[5]]
        assert NO_BOS.plain(starters[0].rewrite).ids[0] in NO_BOS.text_ids(starters[0].rewrite.subject)
        (target,) = made.solve(starters)
        rows, essence = ONE.rows(NO_BOS, starters[0]), ONE.essence(NO_BOS, starters[0])
        z, steps = plain_memit.solve_z(made.adapter.model, rows, essence, 3, made.settings)
        assert target.steps == steps
        assert float((target.z - z).norm() / z.norm()) < 1e-4

    def test_the_same_twice_gives_the_same_bits(self) -> None:
        """Nothing in the solve is random."""
        first, second = solver(steps=5).solve(requests()), solver(steps=5).solve(requests())
        assert all(torch.equal(a.z, b.z) for a, b in zip(first, second, strict=True))

    def test_requests_leave_as_they_converge(self) -> None:
        """Each stops at its own step, below the loss asked for."""
        found = solver(contexts=ONE, **EASY).solve(easy_requests(8))
        assert len({target.steps for target in found}) > 2
        assert all(target.loss < 0.3 for target in found if target.steps < 40)
        assert any(target.steps < 40 for target in found)

    def test_nothing_to_solve(self) -> None:
        """No requests, no targets."""
        assert solver().solve([]) == []


class TestLimits:
    """The clamp, the stopping loss and the number of steps."""

    @pytest.mark.parametrize("clamp", [0.1, 0.75, 1.5])
    def test_the_clamp_is_kept(self, clamp: float) -> None:
        """‖δ‖ ≤ clamp · ‖h‖, reached by a request that wants more."""
        found = solver(clamp=clamp, steps=25).solve(requests())
        assert all(t.delta_norm <= clamp * t.hidden_norm * (1 + 1e-5) for t in found)
        assert any(t.delta_norm > 0.99 * clamp * t.hidden_norm for t in found)

    def test_the_reported_norms_are_those_of_z(self) -> None:
        """z = h + δ."""
        made = solver(steps=4)
        for request, target in zip(requests(), made.solve(requests()), strict=True):
            row = ALL.rows(ENCODER, request)[0]
            h = plain_memit.forward(made.adapter.model, row.ids, 3, row.subject_last)[1]
            assert target.hidden_norm == pytest.approx(float(h.norm()), rel=1e-5)
            assert target.delta_norm == pytest.approx(float((target.z - h).norm()), rel=1e-4)
            assert target.z.dtype == torch.float32

    def test_an_object_that_is_said_already_needs_no_step(self) -> None:
        """Below the stopping loss from the start, z is the hidden state itself."""
        (target,) = solver(stop_loss=100.0).solve(requests()[:1])
        assert (target.steps, target.delta_norm) == (1, 0.0)

    def test_a_strong_decay_keeps_delta_small(self) -> None:
        """The penalty on ‖δ‖ is in the loss."""
        weak = solver(steps=20, decay=0.0).solve(requests()[:2])
        strong = solver(steps=20, decay=3e4).solve(requests()[:2])
        assert all(s.delta_norm < w.delta_norm / 2 for w, s in zip(weak, strong, strict=True))

    def test_the_kl_term_holds_what_the_subject_is(self) -> None:
        """A large weight keeps the distribution after `<subject> is a` nearer to the base model's."""
        moved = []
        for weight in (0.0, 50.0):
            made = solver(steps=15, kl_weight=weight)
            model, row = made.adapter.model, ALL.essence(ENCODER, requests()[0])
            (target,) = made.solve(requests()[:1])
            bare = ALL.rows(ENCODER, requests()[0])[0]
            delta = target.z - plain_memit.forward(model, bare.ids, 3, bare.subject_last)[1]
            moved.append(float(plain_memit.kl_of(model, row, 3, delta)))
        assert 0 <= moved[1] < moved[0] / 2

    def test_others_hear_less(self) -> None:
        """A part of δ at the other subject moves what is said there less; z's own loss still falls."""
        moved, losses = [], []
        for weight in (0.0, 2000.0):
            made = solver(contexts=WATCHED, steps=15, others_weight=weight)
            model, one = made.adapter.model, requests()[0]
            row = WATCHED.other(ENCODER, one)
            assert row is not None
            (target,) = made.solve([one])
            bare = WATCHED.rows(ENCODER, one)[0]
            delta = target.z - plain_memit.forward(model, bare.ids, 3, bare.subject_last)[1]
            moved.append(float(plain_memit.kl_of(model, row, 3, 0.3 * delta)))
            losses.append(target.loss)
        assert 0 <= moved[1] < moved[0] / 2
        start = float(plain_memit.nll_of(model, WATCHED.rows(ENCODER, one), 3))
        assert losses[1] < start - 0.05

    def test_what_is_not_weighed_is_not_run(self) -> None:
        """A weight of nothing costs nothing, and gives the same bits as no other subjects."""
        asked = requests()[:3]
        without, off = solver(steps=4), solver(contexts=WATCHED, steps=4, others_weight=0.0)
        assert [len(made.rows(asked[0])) for made in (without, off, solver(contexts=WATCHED))] == [7, 7, 8]
        for one, other in zip(without.solve(asked), off.solve(asked), strict=True):
            assert torch.equal(one.z, other.z)


class TestNumbers:
    """What can go wrong in the numbers, and what must stay clean."""

    @pytest.mark.parametrize("steps", [1, 5])
    def test_a_z_that_is_not_finite_is_refused_by_name(self, steps: int) -> None:
        """Broken weights below or above the layer never become a target, not even with the first step."""
        for layer in (0, 5):
            made = solver(steps=steps)
            made.adapter.parameter(layer).fill_(float("nan"))
            with pytest.raises(EditError, match="'The capital of France is' is not finite"):
                made.solve(requests()[:1])

    def test_no_gradient_stays_on_the_model(self) -> None:
        """Not even on a model whose weights would take one."""
        made = solver(steps=3)
        made.adapter.model.requires_grad_(True)
        before = {name: p.detach().clone() for name, p in made.adapter.model.named_parameters()}
        found = made.solve(requests())
        assert all(p.grad is None for p in made.adapter.model.parameters())
        assert all(torch.equal(p, before[name]) for name, p in made.adapter.model.named_parameters())
        assert not any(target.z.requires_grad for target in found)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_bfloat16_above_stays_close_to_float32(self, family: str) -> None:
        """z solved in half precision makes the object as likely, up to its rounding."""
        asked = some_requests(family)
        steps = 8 if family in FIRST else 4
        exact = solver(family, steps=steps).solve(asked)
        rough = solver(family, steps=steps, solve_dtype="bfloat16").solve(asked)
        for one, other in zip(exact, rough, strict=True):
            assert other.loss == pytest.approx(one.loss, abs=0.5)
            assert float(torch.cosine_similarity(one.z, other.z, dim=0)) > 0.75

    def test_the_time_is_shared_out(self) -> None:
        """The seconds of a batch add up to what it took."""
        started = time.perf_counter()
        found = solver(steps=2).solve(requests())
        assert 0 < sum(target.seconds for target in found) < time.perf_counter() - started


def test_length_is_that_of_the_longest_context() -> None:
    """Tokens after the subject, over prefixed, bare and chat contexts."""
    made: TargetSolver = solver()
    request = requests()[1]
    assert made.length(request) == max(len(r.inputs) - r.subject_last for r in ALL.rows(ENCODER, request))
    assert solver(contexts=Contexts()).length(request) < made.length(request)


class TestGroups:
    """One δ for several requests."""

    def test_a_group_watches_an_other_for_each_of_its_requests(self) -> None:
        """With a weight that does not grow with the group."""
        made = solver(contexts=WATCHED, others_weight=0.6)
        group = [tiny.request("France", new) for new in ("Rome", "Tokyo", "Berlin")]
        watched = [m for m in made.members(0, group) if m.weight is not None and m.dose < 1]
        assert [m.weight for m in watched] == pytest.approx([0.2] * 3)

    def test_a_group_of_one_is_a_request(self) -> None:
        """The same bits."""
        made, asked = solver(steps=6), requests()
        alone, grouped = made.solve(asked), made.solve_groups([[one] for one in asked])
        assert all(torch.equal(a.z, b.z) and a.loss == b.loss for a, b in zip(alone, grouped, strict=True))

    def test_a_group_shares_its_delta(self) -> None:
        """z - h is the same for each of them, and does better by all of them than any one's own δ does."""
        made = solver(contexts=ONE, **EASY, kl_weight=0.0)
        model = made.adapter.model
        templates = {"capital": "They said {}", "occupation": "In the house of {}", "German": "Not {}"}
        group = [tiny.request("France", new, None, template) for new, template in templates.items()]
        lone = tiny.request("Japan", "his", None, "They said {}")
        rows = [ONE.rows(ENCODER, one)[0] for one in (*group, lone)]
        hidden = [plain_memit.forward(model, row.ids, 3, row.subject_last)[1] for row in rows]
        found = made.solve_groups([group, [lone]])
        deltas = [target.z - h for target, h in zip(found, hidden, strict=True)]
        for delta in deltas[1:3]:
            torch.testing.assert_close(delta, deltas[0], rtol=1e-4, atol=1e-4)
        assert float((deltas[3] - deltas[0]).norm()) > 0.1
        mean = float(plain_memit.nll_of(model, rows[:3], 3, deltas[0]))
        assert found[0].loss == found[2].loss == pytest.approx(mean, abs=1e-3)
        own = [target.z - h for target, h in zip(made.solve(group), hidden, strict=False)]
        assert all(mean < float(plain_memit.nll_of(model, rows[:3], 3, delta)) for delta in own)

    def test_batches_are_cut_between_groups(self) -> None:
        """A group stays whole."""
        made = solver(contexts=ONE, batch_size=2)
        groups = [requests()[:3], requests()[3:4], requests()[4:5]]
        assert made.cut_groups(groups) == [slice(0, 2), slice(2, 3)]
