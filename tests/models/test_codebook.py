"""Where the codebook starts, and how much of it is used, against sums written out."""

import math

import numpy as np
import paddle
import pytest
from paddleseg.models.backbones import ResNet18_vd

from paddleseg_encnet import ENCNet, Encoding
from paddleseg_encnet.models import codebook

C, K = 6, 4


@pytest.fixture
def draw():
    return np.random.default_rng(5)


def blobs(draw, count=4, each=50, width=C):
    """Positions [count * each, width] around as many centres that lie far apart, and the centres."""
    centres = 10 * draw.normal(size=(count, width))
    return np.concatenate([centre + 0.1 * draw.normal(size=(each, width)) for centre in centres]), centres


def placed_layer(features) -> Encoding:
    layer = Encoding(C, K)
    codebook.place_at_first_step(layer)
    layer.train()
    layer(paddle.to_tensor(features.astype("float32")))
    return layer


# --- how much is used ------------------------------------------------------------------------------------------------

def test_use_by_hand(draw):
    shares = draw.dirichlet(np.ones(K), size=30)
    mean, each = np.zeros(K), 0.0
    for row in shares:
        mean += row / 30
        each += -sum(a * math.log(a) for a in row) / 30
    whole = -sum(a * math.log(a) for a in mean)
    statistics = codebook.CodebookStatistics(K)
    others = draw.dirichlet(np.ones(K), size=30)
    moved = sum(max(a - b, 0) for row, other in zip(shares, others) for a, b in zip(row, other)) / 30
    statistics.add(shares[:10].reshape(2, 5, K), others[:10].reshape(2, 5, K))
    statistics.add(shares[10:], others[10:])
    assert statistics.use() == pytest.approx((whole - each, math.exp(whole), math.exp(each), moved), rel=1e-12)


@pytest.mark.parametrize("shares, information, used, alike", [
    (np.eye(4), math.log(4), 4, 1),                             # each position its own codeword
    (np.eye(4)[[2, 2, 2]], 0, 1, 1),                            # one takes all
    (np.full((5, 4), 0.25), 0, 4, 4)])                          # all alike: used, and telling nothing
def test_use_at_its_ends(shares, information, used, alike):
    statistics = codebook.CodebookStatistics(4)
    statistics.add(shares)
    assert statistics.use()[:3] == pytest.approx((information, used, alike), abs=1e-12)
    assert math.isnan(statistics.use().moved)


def test_the_published_start_collapses_at_once(draw):
    """Features as BatchNorm and ReLU leave them, K = 32, C = 512, no training: one codeword takes nearly all."""
    paddle.seed(0)
    layer = Encoding(512, 32)
    features = np.maximum(draw.normal(size=(1, 512, 400)), 0).astype("float32")
    statistics = codebook.CodebookStatistics(32)
    statistics.add(layer.assign(paddle.to_tensor(features)).numpy())
    assert statistics.use().used < 2 and statistics.use().information < 0.01


def test_assignment_to_one_vector(draw):
    layer = Encoding(C, K)
    features = paddle.to_tensor(draw.normal(size=(2, C, 3, 5)).astype("float32"))
    found = codebook.assign_to_mean(layer, features)
    layer.codewords.set_value(layer.codewords.mean(axis=0, keepdim=True).expand([K, C]))
    np.testing.assert_allclose(found.numpy(), layer.assign(features).numpy(), atol=1e-6)


# --- placing ---------------------------------------------------------------------------------------------------------

def test_k_means_finds_what_lies_apart(draw):
    positions, centres = blobs(draw)
    found = codebook.k_means(positions, 4, draw)
    distances = codebook.squared_distances(centres, found)
    assert sorted(distances.argmin(axis=1)) == [0, 1, 2, 3] and distances.min(axis=1).max() < 0.01


def test_k_means_ends_where_each_centre_is_the_mean_of_its_positions(draw):
    positions = draw.normal(size=(60, C))
    found = codebook.k_means(positions, 3, draw)
    nearest = [min(range(3), key=lambda k: ((position - found[k]) ** 2).sum()) for position in positions]
    for k in range(3):
        own = [position for position, at in zip(positions, nearest) if at == k]
        np.testing.assert_allclose(found[k], np.mean(own, axis=0), rtol=1e-9)


@pytest.mark.parametrize("positions", [np.ones((9, C)), np.zeros((9, C)), np.eye(C)[:2]],
                         ids=["one point", "zeros", "fewer than codewords"])
def test_positions_that_are_hardly_any(positions):
    layer = placed_layer(positions.T[np.newaxis])
    assert np.isfinite(layer.codewords.numpy()).all() and np.isfinite(layer.scale.numpy()).all()
    assert (layer.scale.numpy() < 0).all()
    assert np.isfinite(layer(paddle.to_tensor(positions.T[np.newaxis].astype("float32"))).numpy()).all()


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_sharpness_leaves_a_position_to_so_many(draw, size):
    distances = size * draw.uniform(1, 2, size=(50, 12))
    factor = codebook.factor_for(distances)
    each = 0.0
    for row in distances:
        shares = np.exp(factor * (row - row.min()))
        shares /= shares.sum()
        each += -sum(a * math.log(a) for a in shares) / 50
    assert factor < 0 and math.exp(each) == pytest.approx(codebook.ALIKE, rel=1e-6)


def test_the_first_training_step_places_and_no_other(draw):
    positions, centres = blobs(draw)
    layer = Encoding(C, K)
    codebook.place_at_first_step(layer)
    features = paddle.to_tensor(positions.T[np.newaxis].astype("float32"))
    start = layer.codewords.numpy()
    layer.eval()
    layer(features)
    assert np.array_equal(layer.codewords.numpy(), start)
    layer.train()
    layer(features)
    placed = layer.codewords.numpy()
    assert codebook.squared_distances(centres, placed).min(axis=1).max() < 0.01
    layer(2 * features)
    assert np.array_equal(layer.codewords.numpy(), placed)


def test_what_was_loaded_is_left_alone(draw):
    layer, other = Encoding(C, K), Encoding(C, K)
    codebook.place_at_first_step(layer)
    layer.set_state_dict(other.state_dict())
    layer.train()
    layer(paddle.to_tensor(draw.normal(size=(1, C, 20)).astype("float32")))
    assert np.array_equal(layer.codewords.numpy(), other.codewords.numpy())
    assert np.array_equal(layer.scale.numpy(), other.scale.numpy())


# --- the network's option --------------------------------------------------------------------------------------------

def network(**options) -> ENCNet:
    paddle.seed(3)
    return ENCNet(5, ResNet18_vd(output_stride=8), num_codes=8, mid_channels=16, **options)


def test_the_option_changes_no_name_shape_or_start():
    published, features = network().state_dict(), network(codebook_start="features").state_dict()
    assert list(published) == list(features)
    assert all(np.array_equal(published[name].numpy(), features[name].numpy()) for name in published)


def test_both_encoders_are_placed_where_both_stages_predict_presence(draw):
    model = network(codebook_start="features", use_se_loss_stage3=True)
    layers = [layer for layer in model.sublayers() if isinstance(layer, Encoding)]
    starts = [layer.codewords.numpy() for layer in layers]
    model.train()
    model(paddle.to_tensor(draw.normal(size=(2, 3, 64, 64)).astype("float32")))
    assert len(layers) == 2
    assert all(not np.array_equal(layer.codewords.numpy(), start) for layer, start in zip(layers, starts))


def test_a_network_without_the_option_reads_what_was_placed(draw):
    """Same parameters, same forward pass: the outputs are the same to the bit."""
    images = paddle.to_tensor(draw.normal(size=(2, 3, 64, 64)).astype("float32"))
    placed, published = network(codebook_start="features"), network()
    placed.train()
    placed(images)
    published.set_state_dict(placed.state_dict())
    for model in (placed, published):
        model.eval()
    assert np.array_equal(placed(images)[0].numpy(), published(images)[0].numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_features_of_half_precision(draw, dtype):
    """Wide and long ones, whose squares leave float16's range: placed, and all that follows is finite."""
    layer = Encoding(512, 8)
    codebook.place_at_first_step(layer)
    layer.train()
    features = paddle.to_tensor(draw.normal(30, 1, size=(1, 512, 40)).astype("float32")).astype(dtype)
    features.stop_gradient = False
    with paddle.amp.auto_cast(level="O2", dtype=dtype):
        encoded = layer(features)
    encoded.astype("float32").square().mean().backward()
    assert np.abs(layer.codewords.numpy().mean() - 30) < 1
    for found in (encoded, layer.codewords, layer.scale, layer.codewords.grad, features.grad):
        assert np.isfinite(found.astype("float32").numpy()).all()


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match='codebook_start is "published" or "features", got .kmeans.'):
        network(codebook_start="kmeans")


def test_factors_that_are_drawn_cannot_be_placed():
    with pytest.raises(ValueError, match="take one of them"):
        network(codebook_start="features", random_scale=True)


def test_factors_are_held_and_codewords_learn(draw):
    model = network(codebook_start="features")
    layer = model.enc_module.encoding[0]
    optimizer = paddle.optimizer.AdamW(0.01, parameters=model.parameters())
    model.train()
    images = paddle.to_tensor(draw.normal(size=(2, 3, 64, 64)).astype("float32"))
    model(images)
    placed = layer.codewords.numpy(), layer.scale.numpy()
    for _ in range(2):
        sum(output.square().mean() for output in model(images)).backward()
        optimizer.step()
        optimizer.clear_grad()
    assert np.array_equal(layer.scale.numpy(), placed[1]) and (placed[1] < 0).all()
    assert not np.array_equal(layer.codewords.numpy(), placed[0])


def test_without_codewords_there_is_nothing_to_place(capsys):
    ENCNet(5, ResNet18_vd(output_stride=8), num_codes=0, mid_channels=16, codebook_start="features")
    said = capsys.readouterr()
    assert "codebook_start: features has nothing to do" in said.out + said.err
