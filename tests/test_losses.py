import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from torch.nn import functional

from asd.losses import LARGEST_SCALE, SMALLEST_SCALE, AdaCos, adaptive_scale, focal, make_loss, mixed_focal
from asd.settings import CosineLoss


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def published_scale(cosine, labels, previous):
    """Zhang et al. 2019, section 4.2, word by word, in float64; the lower of two middle angles."""
    total = []
    angles = []
    for row, label in zip(cosine, labels, strict=True):
        total += [previous * value for k, value in enumerate(row) if k != label]
        angles.append(math.acos(max(-1.0, min(1.0, row[label]))))
    theta = sorted(angles)[(len(angles) - 1) // 2]
    return (logsumexp(total) - math.log(len(labels))) / math.cos(min(math.pi / 4, theta))


def batch(seed, size, classes, features=16):
    draw = np.random.default_rng(seed)
    embedding = torch.from_numpy(draw.normal(size=(size, features))).float()
    return embedding, torch.from_numpy(draw.integers(classes, size=size))


# --- AdaCos -------------------------------------------------------------------------------------------------


def test_scale_by_hand():
    cosine = torch.zeros(5, 11)
    labels = torch.arange(5)
    cosine[labels, labels] = 1.0  # theta_med = 0, B_avg = 10 exp(0): log(10) / cos(0)
    assert adaptive_scale(cosine, labels, torch.tensor(7.0)).item() == pytest.approx(2.302585, rel=1e-6)
    cosine[labels, labels] = 0.5  # 60 degrees, capped at 45: log(10) sqrt(2)
    assert adaptive_scale(cosine, labels, torch.tensor(7.0)).item() == pytest.approx(3.256347, rel=1e-6)
    cosine[labels, labels] = 0.8  # below 45 degrees: log(10) / 0.8
    assert adaptive_scale(cosine, labels, torch.tensor(7.0)).item() == pytest.approx(2.878231, rel=1e-6)
    cosine += 0.1  # the others at 0.1: B_avg = 10 exp(0.7); the target at 0.9
    assert adaptive_scale(cosine, labels, torch.tensor(7.0)).item() == pytest.approx((2.302585 + 0.7) / 0.9, rel=1e-6)


def test_median_of_an_even_batch_is_the_lower_angle():
    cosine = torch.zeros(4, 3)
    cosine[:, 0] = torch.tensor([0.95, 0.75, 0.9, 0.8])  # the middle angles are those of 0.9 and 0.8
    scale = adaptive_scale(cosine, torch.zeros(4, dtype=torch.long), torch.tensor(5.0))
    assert scale.item() == pytest.approx(max(math.log(2) / 0.9, SMALLEST_SCALE))
    cosine[:, 1:] = 0.5
    scale = adaptive_scale(cosine, torch.zeros(4, dtype=torch.long), torch.tensor(5.0))
    assert scale.item() == pytest.approx((math.log(2) + 2.5) / 0.9)


@pytest.mark.parametrize("classes", [2, 3, 6, 39])
@pytest.mark.parametrize("size", [1, 8, 101])
def test_scale_follows_the_paper_over_many_batches(classes, size):
    head = AdaCos(16, classes, seeded(classes))
    expected = max(math.sqrt(2) * math.log(classes - 1), math.sqrt(2) * math.log(2))
    assert head.scale.item() == pytest.approx(expected)
    weight = functional.normalize(head.weight.detach().double()).numpy()
    for step in range(5):
        embedding, labels = batch(step, size, classes)
        embedding += 3 * head.weight.detach()[labels]  # so that some angles are below 45 degrees
        unit = functional.normalize(embedding.double()).numpy()
        expected = max(published_scale(unit @ weight.T, labels.tolist(), expected), SMALLEST_SCALE)
        logits = head(embedding, labels)
        assert head.scale.item() == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(logits.detach().numpy(), expected * unit @ weight.T, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 30), st.floats(SMALLEST_SCALE, LARGEST_SCALE))
def test_scale_is_finite_bounded_and_published(seed, classes, size, previous):
    draw = np.random.default_rng(seed)
    cosine = draw.uniform(-1, 1, (size, classes)).astype(np.float32)
    cosine[draw.random((size, classes)) < 0.2] = draw.choice([-1, 1])
    labels = draw.integers(classes, size=size)
    scale = adaptive_scale(torch.from_numpy(cosine), torch.from_numpy(labels), torch.tensor(previous)).item()
    expected = published_scale(cosine.astype(float), labels, np.float32(previous).item())
    assert scale == pytest.approx(min(max(expected, SMALLEST_SCALE), LARGEST_SCALE), rel=1e-4)


def test_scale_never_falls_below_the_floor_or_grows_for_ever():
    labels = torch.zeros(4, dtype=torch.long)
    scale = torch.tensor(50.0)
    for _ in range(100):
        scale = adaptive_scale(torch.full((4, 2), -1.0), labels, scale)
    assert scale.item() == pytest.approx(math.sqrt(2) * math.log(2))
    for _ in range(1000):
        scale = adaptive_scale(torch.ones(4, 2), labels, scale)
        scale = adaptive_scale(torch.ones(4, 9), labels, scale)
    assert scale.item() == LARGEST_SCALE


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scale_survives_a_broken_batch(value):
    head = AdaCos(16, 4, seeded())
    embedding, labels = batch(0, 8, 4)
    head(embedding, labels)
    before = head.scale.item()
    embedding[3, 2] = value
    head(embedding, labels)
    assert head.scale.item() == before


def test_zero_embedding_gives_zero_logits_and_finite_gradients():
    head = AdaCos(16, 3, seeded())
    embedding = torch.zeros(4, 16, requires_grad=True)
    logits = head(embedding, torch.tensor([0, 1, 2, 0]))
    focal(logits, torch.tensor([0, 1, 2, 0]), 2.0).mean().backward()
    assert torch.equal(logits, torch.zeros(4, 3))
    assert embedding.grad.isfinite().all()
    assert head.weight.grad.isfinite().all()


def test_scale_is_fixed_in_evaluation_and_without_labels():
    head = AdaCos(16, 5, seeded())
    embedding, labels = batch(0, 8, 5)
    before = head.scale.item()
    head(embedding)
    assert head.scale.item() == before
    head.eval()
    logits = head(embedding, labels)
    assert head.scale.item() == before
    torch.testing.assert_close(logits, head.scale * head.cosine(embedding))
    head.train()(embedding, labels)
    assert head.scale.item() != before


def test_scale_is_state():
    head = AdaCos(16, 5, seeded(1))
    head(*batch(0, 8, 5))
    other = AdaCos(16, 5, seeded(2))
    other.load_state_dict(head.state_dict())
    assert set(head.state_dict()) == {"weight", "scale"}
    assert torch.equal(other.scale, head.scale)
    assert torch.equal(other.weight, head.weight)


def test_gradient_is_that_of_a_constant_scale():
    head = AdaCos(16, 5, seeded())
    embedding, labels = batch(0, 9, 5)
    embedding.requires_grad_()
    focal(head(embedding, labels), labels, 2.0).sum().backward()
    found = embedding.grad.clone(), head.weight.grad.clone()
    embedding.grad = head.weight.grad = None
    scale = head.scale.item()
    focal(scale * head.cosine(embedding), labels, 2.0).sum().backward()
    torch.testing.assert_close(found, (embedding.grad, head.weight.grad))
    assert not head.scale.requires_grad


def test_float32_under_autocast():
    head = AdaCos(16, 5, seeded())
    embedding, labels = batch(0, 8, 5)
    embedding = embedding.bfloat16()
    plain = head(embedding.float())
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(embedding)
        loss = focal(head(embedding, labels), labels, 2.0)
    assert logits.dtype == loss.dtype == head.scale.dtype == torch.float32
    assert torch.equal(logits, plain)


def test_same_generator_same_weights_and_the_global_state_is_untouched():
    state = torch.get_rng_state()
    assert torch.equal(AdaCos(16, 5, seeded(3)).weight, AdaCos(16, 5, seeded(3)).weight)
    assert not torch.equal(AdaCos(16, 5, seeded(3)).weight, AdaCos(16, 5, seeded(4)).weight)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("classes", [1, 0])
def test_too_few_classes(classes):
    with pytest.raises(ValueError, match=f"two classes; found {classes}"):
        AdaCos(16, classes, seeded())


def test_whole_step_is_one_graph():
    """Reading anything back to the host (`.item()`, `if tensor`) would break the graph, and fullgraph refuses that."""
    head = AdaCos(16, 5, seeded())
    twin = AdaCos(16, 5, seeded())

    def step(module, embedding, first, second, weight):
        dominant = torch.where(weight >= 0.5, first, second)
        return mixed_focal(module(embedding, dominant), first, second, weight, 2.0).mean()

    compiled = torch.compile(step, fullgraph=True, backend="eager")
    for seed in range(2):
        embedding, first = batch(seed, 8, 5)
        arguments = embedding, first, first.flip(0), torch.linspace(0, 1, 8)
        torch.testing.assert_close(compiled(head, *arguments), step(twin, *arguments))
    assert torch.equal(head.scale, twin.scale)


@pytest.mark.parametrize("classes", [2, 6])
def test_learns(classes):
    torch.manual_seed(0)
    head = AdaCos(16, classes, seeded())
    layer = torch.nn.Linear(16, 16)
    centres = torch.randn(classes, 16)
    labels = torch.arange(120) % classes
    clips = centres[labels] + 0.3 * torch.randn(120, 16)
    optimiser = torch.optim.Adam([*head.parameters(), *layer.parameters()], lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        focal(head(layer(clips), labels), labels, 2.0).mean().backward()
        optimiser.step()
    assert (head(layer(clips)).argmax(1) == labels).float().mean() > 0.98
    assert SMALLEST_SCALE <= head.scale.item() < 30


# --- the focal loss -----------------------------------------------------------------------------------------


def published_focal(logits, labels, gamma):
    """Lin et al. 2017, equation (4), in float64."""
    p = np.exp(logits - logits.max(1, keepdims=True))
    p = (p / p.sum(1, keepdims=True))[np.arange(len(labels)), labels]
    return -((1 - p) ** gamma) * np.log(p)


def test_focal_by_hand():
    logits = torch.tensor([[math.log(9.0), 0.0]])  # p = 0.9: a hundredth of the cross entropy 0.1053605
    assert focal(logits, torch.tensor([0]), 2.0).item() == pytest.approx(0.001053605, rel=1e-5)
    assert focal(logits, torch.tensor([1]), 2.0).item() == pytest.approx(0.81 * 2.302585, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_focal_against_numpy(gamma):
    draw = np.random.default_rng(1)
    logits, labels = draw.normal(scale=3, size=(50, 7)), draw.integers(7, size=50)
    found = focal(torch.from_numpy(logits), torch.from_numpy(labels), gamma).numpy()
    np.testing.assert_allclose(found, published_focal(logits, labels, gamma), rtol=1e-9)
    assert found.shape == (50,)


def test_focal_without_focus_is_cross_entropy():
    logits, labels = torch.randn(20, 7, generator=seeded()), torch.arange(20) % 7
    torch.testing.assert_close(focal(logits, labels, 0.0), functional.cross_entropy(logits, labels, reduction="none"))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_focal_gradient(gamma):
    logits = torch.randn(6, 4, generator=seeded(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: focal(x, torch.tensor([0, 1, 2, 3, 0, 1]), gamma), logits)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 1.5, 2.0, 5.0])
def test_focal_is_finite_and_has_a_finite_gradient_everywhere(gamma):
    margins = torch.cat([torch.logspace(-8, 4, 200), -torch.logspace(-8, 4, 200), torch.zeros(1)])
    logits = torch.stack([margins, torch.zeros_like(margins)], 1).requires_grad_()
    loss = focal(logits, torch.zeros(len(margins), dtype=torch.long), gamma)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert (loss >= 0).all()
    assert logits.grad.isfinite().all()
    certain = margins > 200  # p = 1 in float32
    assert torch.equal(logits.grad[certain], torch.zeros_like(logits.grad[certain]))


def test_mixed_focal_weighs_each_clip_by_itself():
    logits = torch.randn(4, 5, generator=seeded())
    first, second = torch.tensor([0, 1, 2, 3]), torch.tensor([4, 4, 0, 3])
    weight = torch.tensor([1.0, 0.0, 0.3, 0.7])
    a, b = (published_focal(logits.double().numpy(), labels.numpy(), 2.0) for labels in (first, second))
    found = mixed_focal(logits, first, second, weight, 2.0)
    np.testing.assert_allclose(found, weight.numpy() * a + (1 - weight.numpy()) * b, rtol=1e-5)


# --- losses of soft labels ----------------------------------------------------------------------------------


def plain_loss(kind, embedding, centres, first, second, weight, scale, margin=0.5):
    """The mean loss in numpy, class by class and clip by clip."""
    total = 0.0
    unit = centres / np.linalg.norm(centres, axis=2, keepdims=True)
    for x, one, other, share in zip(embedding, first, second, weight, strict=True):
        x = x / np.linalg.norm(x)
        for label, part in ((one, share), (other, 1 - share)):
            logits = []
            for number, own in enumerate(unit):
                if kind == "subcluster_adacos":
                    logits.append(logsumexp([scale * x @ centre for centre in own]))
                elif kind == "adaproj":
                    projected = sum((x @ centre) * centre for centre in own)
                    logits.append(scale * x @ projected / np.linalg.norm(projected))
                else:
                    angle = math.acos(x @ own[0])
                    moved = (
                        math.cos(angle + margin)
                        if angle + margin <= math.pi
                        else x @ own[0] - margin * math.sin(margin)
                    )
                    logits.append(scale * (moved if number == label else x @ own[0]))
            total += part * (logsumexp(logits) - logits[label])
    return total / len(embedding)


@pytest.mark.parametrize("kind", ["subcluster_adacos", "adaproj", "arcface"])
def test_losses_of_soft_labels_have_the_values_and_gradients_of_plain_ones(kind):
    draw = np.random.default_rng(0)
    centres = 1 if kind == "arcface" else 3
    loss = make_loss(6, 4, CosineLoss(kind=kind, centres=3))
    count = {"subcluster_adacos": 12, "adaproj": 4, "arcface": 4}[kind]
    assert loss.scale.item() == pytest.approx(max(math.sqrt(2) * math.log(count - 1), SMALLEST_SCALE))
    assert loss.weight.shape == (4 * centres, 6)
    loss.double()
    first, second = np.array([0, 1, 2, 3, 3]), np.array([0, 2, 1, 0, 3])
    weight, embedding = np.array([1.0, 0.7, 0.2, 0.5, 0.0]), draw.normal(size=(5, 6))
    embedding[4] = -loss.weight.detach().numpy()[3]  # an angle of 180 degrees, above pi - margin
    embedding[4] += 0.01 * draw.normal(size=6)
    given = torch.from_numpy(embedding).requires_grad_()
    losses, logits = loss(given, *(torch.from_numpy(one) for one in (first, second, weight)))
    losses.mean().backward()
    assert logits.shape == (5, 4)

    def plain(embedding, weights):
        shaped = weights.reshape(4, centres, 6)
        return plain_loss(kind, embedding, shaped, first, second, weight, loss.scale.item())

    weights = loss.weight.detach().numpy()
    assert losses.mean().item() == pytest.approx(plain(embedding, weights), rel=1e-6)
    for values, gradient, function in (
        (embedding, given.grad, lambda one: plain(one, weights)),
        (weights, loss.weight.grad, lambda one: plain(embedding, one)),
    ):
        for index in np.ndindex(*values.shape):
            step = np.zeros_like(values)
            step[index] = 1e-6
            slope = (function(values + step) - function(values - step)) / 2e-6
            assert gradient[index].item() == pytest.approx(slope, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("kind", ["subcluster_adacos", "adaproj", "arcface"])
def test_losses_of_soft_labels_stay_finite_where_an_embedding_is_a_centre(kind):
    loss = make_loss(4, 2, CosineLoss(kind=kind, centres=2))
    embedding = loss.weight.detach()[:1].clone().requires_grad_()
    labels = torch.zeros(1, dtype=torch.int64)
    loss(embedding, labels, labels, torch.ones(1))[0].sum().backward()
    assert embedding.grad.isfinite().all()
    assert loss.weight.grad.isfinite().all()


def test_fixed_centres_and_a_scale_of_ones_own():
    loss = make_loss(4, 2, CosineLoss(trainable=False, scale=30.0))
    assert not loss.weight.requires_grad
    assert loss.scale == 30
