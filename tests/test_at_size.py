"""What makes training fit a GPU changes how a step is computed, and not what: splitting, rounding, recomputing."""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from test_finetune import Large, Noise, captioned, frozen_activations, model, task, vit, weights

import saeft_ray.orchestration.plan
from saeft_ray import sae
from saeft_ray.config.schema import METHODS
from saeft_ray.config.sweep_file import parse
from saeft_ray.methods import EmbeddingPenalty, LayerPenalty, Regularized
from saeft_ray.methods.baselines import FineTuning
from saeft_ray.methods.captions import FLYP
from saeft_ray.methods.embeddings import MSE
from saeft_ray.methods.facts import Facts
from saeft_ray.methods.layers import LDIFS
from saeft_ray.model import encoder
from saeft_ray.orchestration import artifacts
from saeft_ray.orchestration.facts import find_facts
from saeft_ray.orchestration.local import LocalRunner
from saeft_ray.orchestration.plan import Plan
from saeft_ray.orchestration.progress import Quiet
from saeft_ray.orchestration.trial_context import TrialContext
from saeft_ray.settings import Compute, DictionarySettings, Model, Train
from saeft_ray.training import frozen_embeddings
from saeft_ray.training.evaluate import correct
from saeft_ray.training.loop import Training, _batch, finetune
from saeft_ray.training.worker import Worker

import sweeps

CPU = torch.device("cpu")
NO_MEAN = sorted(name for name, cls in METHODS.items() if cls.trains and not cls.batch_mean)
TRAINED = sorted(name for name, cls in METHODS.items() if cls.trains and cls.batch_mean)


def made(name):
    """A method of this type with every lambda 1."""
    cls = METHODS[name]
    lambdas = {field: 1.0 for field in cls.model_fields if field.startswith("lambda_")}
    return cls(**lambdas, **({"components": 2} if name == "pca" else {}))


def job_of(method, **train):
    """A task of two steps an epoch, for a vision transformer, with whatever `method` reads."""
    frozen, constants = vit().requires_grad_(False), {}
    split, d = Noise(), vit().embed(Noise().views(np.arange(40), np.zeros(40, int), 0)).detach()[:, None].numpy()
    D = sae.random(d, DictionarySettings(width=16, k=2), 0) if method.dictionary_kind else None
    if isinstance(method, Regularized) and method.has_constants:
        read = SimpleNamespace(
            activations=lambda: [torch.from_numpy(d[:, 0])],
            dictionary=D,
            model=vit,
            images=lambda: split,
            contexts=lambda: torch.randn(3, 8, generator=torch.Generator().manual_seed(9)),
            seed=3,
        )
        constants = method.prepare(read)
    return task(method, frozen, batch_size=20, **train)._replace(dictionary=D, constants=constants)


def gradients(job, worker, start=vit):
    """Of the first batch of `job`, and the terms of its loss, from weights a little off the frozen ones."""
    moved = start()
    with torch.no_grad():
        for i, parameter in enumerate(moved.parameters()):
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
    training = finetune(moved, job, worker)
    found = []

    def stop(batch):
        found.append(Training._gradients(training, batch))
        raise StopIteration

    training._gradients = stop
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(iter(training))
    return {name: p.grad for name, p in moved.named_parameters() if p.grad is not None}, found[0]


@pytest.mark.parametrize("name", TRAINED)
def test_micro_batches_add_up_to_the_batch(name):
    job = job_of(made(name))
    whole, terms = gradients(job, Worker())
    length = torch.cat([g.flatten() for g in whole.values()]).norm()
    for accumulate in (3, 4):  # parts of 7, 7 and 6 images; of 5 each
        parts, of_parts = gradients(job, Worker(accumulate=accumulate))
        assert parts.keys() == whole.keys()
        for key in whole:
            assert (parts[key] - whole[key]).norm() <= 1e-4 * length, key
        # A divergence near zero is a difference of float32 logarithms: it is as exact as those, not as itself.
        same = pytest.approx({k: float(v) for k, v in terms.items()}, rel=1e-6, abs=1e-7)
        assert {k: float(v) for k, v in of_parts.items()} == same


@pytest.mark.parametrize("name", NO_MEAN)
def test_a_loss_that_is_no_mean_over_the_batch_is_not_split(name):
    with pytest.raises(ValueError, match="not a mean over the batch"):
        finetune(model(), task(made(name), frozen_activations()), Worker(accumulate=2))
    text = "name: a\nmodel: {arch: digit-clip, pretrained: shipped}\ndata: {type: digit_world}\ntrain: {epochs: 1}\n"
    method = {"type": name, **made(name).model_dump(exclude={"type"})}
    with pytest.raises(ValueError, match=r"methods\.m: its loss is not a mean .* compute\.accumulate = 2 .* give 1"):
        parse(text + f"methods: {json.dumps({'ft': {}, 'm': method})}\ncompute: {{accumulate: 2}}\n")


def test_a_batch_is_split_evenly_or_not_at_all():
    with pytest.raises(ValueError, match=r"compute\.accumulate: 64 images per worker .* 3 equal micro-batches"):
        sweeps.config("runs", compute={"workers": 2, "accumulate": 3})
    assert sweeps.config("runs", compute={"workers": 2, "accumulate": 4}).compute.accumulate == 4


@pytest.fixture
def resnet(tmp_path):
    """A tiny ResNet of open_clip, as the sweep file would name it."""
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 41, "width": 8, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-resnet.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-resnet.json")
    return Model(arch="tiny-resnet", pretrained="random")


class Big(Noise):
    def images(self, index):
        return super().images(index).repeat(1, 1, 4, 4)


def test_convolutions_run_channels_last_and_resume_bit_equal(resnet):
    loaded = encoder.load(resnet)
    start = partial(loaded.classifier, torch.eye(2, 8))
    channels = start().encoder.layer1[0].conv2.weight
    assert channels.is_contiguous(memory_format=torch.channels_last)
    assert not channels.is_contiguous()
    digits = encoder.load(Model(arch="digit-clip", pretrained="shipped"))  # its one convolution cuts patches
    assert digits.clip.visual.conv1.weight.is_contiguous()
    whole, first, second = start(), start(), start()
    job = task(epochs=2, batch_size=20)._replace(split=Big())
    list(finetune(whole, job, Worker()))
    training = finetune(first, job, Worker())
    next(iter(training))
    # As a checkpoint holds them: contiguous.
    state = training.state()._replace(tensors={k: v.contiguous() for k, v in training.state().tensors.items()})
    second.load_state_dict({k: v.contiguous() for k, v in first.state_dict().items()})
    list(finetune(second, job, Worker(), state))
    assert torch.equal(weights(whole), weights(second))


def test_batch_statistics_are_not_split(resnet):
    with pytest.raises(ValueError, match=r"normalises by batch statistics.*give compute\.workers: 1"):
        finetune(encoder.load(resnet).classifier(torch.eye(2, 8)), task(), Worker(accumulate=2))
    config = sweeps.config("runs", model=resnet.model_dump(include={"arch", "pretrained"}), compute={"workers": 2})
    with pytest.raises(ValueError, match=r"model\.arch: .*batch statistics"):
        find_facts(config)
    words = encoder.unfit(resnet, Compute(checkpoint_activations=True))
    assert words == ["compute.checkpoint_activations: tiny-resnet has no blocks that can; leave it out"]


@pytest.mark.parametrize("method", [FineTuning(), LDIFS(lambda_ldifs=10.0)])
def test_checkpointed_activations_give_equal_gradients(method):
    runs = []

    def counted():
        made = vit()
        made.encoder.transformer.resblocks[1].mlp.register_forward_pre_hook(lambda *_: runs.append(None))
        return made

    kept, terms = gradients(job_of(method), Worker(), counted)
    once = len(runs)
    anew, again = gradients(job_of(method), Worker(checkpoint_activations=True), counted)
    assert len(runs) - once == 2 * once
    assert terms == again
    assert all(torch.equal(kept[name], anew[name]) for name in kept)
    with pytest.raises(ValueError, match="checkpoint_activations: this image tower cannot"):
        finetune(model(), task(), Worker(checkpoint_activations=True))


def test_flyp_checkpoints_both_towers():
    whole, kept = captioned(), captioned()
    job = task(FLYP(), epochs=1, batch_size=40)._replace(split=Large())
    list(finetune(whole, job, Worker(checkpoint_activations=True)))
    assert whole.classifier.encoder.transformer.grad_checkpointing
    assert whole.text.transformer.grad_checkpointing
    list(finetune(kept, job, Worker()))
    assert torch.equal(weights(whole), weights(kept))


def test_a_compiled_step_leaves_the_model_what_it_is(monkeypatch):
    """Traced as torch.compile does it; only its code generators, which take a minute, are left out."""
    compiled = []

    def compile(module):
        compiled.append(module)
        return real(module, backend="eager")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", compile)
    one, plain = vit(), vit()
    list(finetune(one, task(epochs=1), Worker(compile=True, accumulate=2)))
    list(finetune(plain, task(epochs=1), Worker(accumulate=2)))
    assert compiled == [one]
    assert list(one.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(weights(one), weights(plain), rtol=1e-3, atol=1e-4)
    # Hooks inside a compiled encoder would be passed over, so this method trains without.
    (epoch,) = finetune(vit(), job_of(LDIFS(lambda_ldifs=10.0), epochs=1), Worker(compile=True))
    assert epoch.terms["ldifs"] > 0
    assert compiled == [one]


def half(job_or_model):
    job_or_model.precision = "bf16"
    return job_or_model


def test_bf16_is_inside_the_encoder_alone():
    seen = {}
    tuned = half(vit())
    tuned.encoder.transformer.resblocks[0].mlp.c_fc.register_forward_hook(lambda _, i, o: seen.update(inside=o.dtype))
    tuned.head.register_forward_hook(lambda _, i, o: seen.update(head=o.dtype, features=i[0].dtype))
    frozen = half(vit()).requires_grad_(False)
    training = finetune(tuned, task(LDIFS(lambda_ldifs=10.0), frozen, epochs=1), Worker())
    list(training)
    assert seen == {"inside": torch.bfloat16, "head": torch.float32, "features": torch.float32}
    assert {p.dtype for p in tuned.parameters()} == {t.dtype for t in training.state().tensors.values()}
    assert {p.dtype for p in tuned.parameters()} == {torch.float32}
    with torch.no_grad():
        _, tokens = encoder.with_tokens(tuned, [1, 2], lambda: tuned.embed(Noise().images(np.arange(3))))
    assert {each.dtype for each in tokens} == {torch.float32}
    whole = half(captioned())
    whole.classifier.precision = "bf16"
    words = whole.sample_captions(torch.arange(4) % 2, np.zeros((4, 2), np.float32))
    assert whole(Large().images(np.arange(4)), *words).logits.dtype == torch.float32


@pytest.mark.parametrize("name", TRAINED)
def test_bf16_rounds_every_method_a_little_and_no_penalty_acts_at_the_start(name):
    method = made(name)
    job = job_of(method)
    half(job.frozen)
    exact, terms = gradients(job_of(method), Worker())
    rounded, of_rounded = gradients(job, Worker(), lambda: half(vit()))
    one, other = (torch.cat([g[key].flatten() for key in exact]) for g in (exact, rounded))
    assert 0 < (one - other).norm() < 0.3 * one.norm()  # sae_kl, which takes logarithms of small shares, 0.22
    assert {k: float(v) for k, v in of_rounded.items()} == pytest.approx(
        {k: float(v) for k, v in terms.items()}, rel=0.1, abs=1e-4
    )
    if isinstance(method, EmbeddingPenalty | LayerPenalty) and method.zero_at_start:
        still = half(vit())
        training = finetune(still, job, Worker())
        index = np.arange(20)
        at_start = training._losses(_batch(job, 0, index), still).terms
        assert all(v.item() < 1e-6 for k, v in at_start.items() if k != "cross_entropy")


def test_a_run_in_bf16_resumes_bit_equal():
    whole, first, second = (half(vit()) for _ in range(3))
    job = task(MSE(lambda_mse=10.0), half(vit()).requires_grad_(False), epochs=2)
    list(finetune(whole, job, Worker()))
    training = finetune(first, job, Worker())
    next(iter(training))
    second.load_state_dict({k: v.clone() for k, v in first.state_dict().items()})
    list(finetune(second, job, Worker(), training.state()))
    assert torch.equal(weights(whole), weights(second))


def planned(**sections):
    facts = Facts(
        {"arch": "a", "weights": "w"}, 28, 64, "data", "train", {"train": 1500, "selection": 100, "ID": 100}, 10
    )
    return Plan(sweeps.config("runs", **sections), facts)


def test_precision_is_another_configuration_and_how_a_step_is_computed_is_not():
    plain = planned()
    spec = next(s for s in plain.confirm({"ft": plain.config.methods["ft"]}))
    split = planned(compute={"accumulate": 4, "checkpoint_activations": True, "compile": True})
    assert split.config.determining_settings() == plain.config.determining_settings()
    assert split.final_weights(spec).key == plain.final_weights(spec).key
    train = sweeps.SMALL["train"]
    said, other = (planned(train={**train, "precision": p}) for p in ("fp32", "bf16"))
    assert "precision" not in said.config.determining_settings()["train"]
    assert said.final_weights(spec).key == plain.final_weights(spec).key
    assert said.activations().key == plain.activations().key
    assert other.config.determining_settings() != plain.config.determining_settings()
    assert other.final_weights(spec).key != plain.final_weights(spec).key
    assert other.activations().key != plain.activations().key
    assert other.head().key == plain.head().key  # text is read in float32
    assert other.dictionary("trained", 0).key != plain.dictionary("trained", 0).key
    assert Train.model_validate(other.config.determining_settings()["train"]).precision == "bf16"


def test_evaluation_by_loaders_is_the_same():
    tuned = model()
    here, there = (correct(tuned, Noise(), CPU, loaders=loaders) for loaders in (0, 2))
    assert here.tolist() == there.tolist()
    assert 0 < here.sum() < 40


def test_weights_with_another_activation_function_are_refused():
    with pytest.raises(ValueError, match=r"model\.arch: the weights openai were trained as ViT-B-32-quickgelu"):
        encoder.identity(Model(arch="ViT-B-32", pretrained="openai"))
    assert encoder.identity(Model(arch="ViT-B-32-quickgelu", pretrained="openai"))["weights"] == "openai"
    assert encoder.identity(Model(arch="ViT-B-32", pretrained="laion2b_s34b_b79k"))


def test_an_extraction_that_is_killed_goes_on_where_it_was(tmp_path, monkeypatch):
    sections = {"methods": {"ft": {}, "mse": {"lambda_mse": 300}}, "compute": {"loaders": 2}}
    plan, store, _ = sweeps.opened(sweeps.config(tmp_path / "one", **sections))
    assert plan.activations().shards == ()
    want = (artifacts.ensure(plan.activations(), plan, store, CPU) / frozen_embeddings.FILE).read_bytes()
    monkeypatch.setattr(saeft_ray.orchestration.plan, "SHARD", 512)
    plan, store, ledger = sweeps.opened(sweeps.config(tmp_path / "many", **{**sections, "compute": {}}))
    whole, computed, compute = plan.activations(), [], frozen_embeddings.compute

    def killed(frozen, split, images, *rest):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(images)
        compute(frozen, split, images, *rest)

    monkeypatch.setattr(frozen_embeddings, "compute", killed)
    with pytest.raises(KeyboardInterrupt):
        LocalRunner(plan, store, ledger).build(plan.artifacts(), Quiet())
    assert computed == [range(512), range(512, 1024)]
    assert sorted(store.keys("shard")) == sorted(shard.key for shard in whole.shards[:2])
    assert not store.has(whole.kind, whole.key)
    monkeypatch.setattr(frozen_embeddings, "compute", lambda *args: computed.append(args[2]) or compute(*args))
    LocalRunner(plan, store, ledger).build(plan.artifacts(), Quiet())
    assert [images.start for images in computed] == list(range(0, plan.facts.sizes["train"], 512))
    assert (store.get(whole.kind, whole.key) / frozen_embeddings.FILE).read_bytes() == want
    assert store.keys("shard") == []


def test_shards_end_where_batches_end_and_change_no_key(monkeypatch):
    assert saeft_ray.orchestration.plan.SHARD % frozen_embeddings.BATCH == 0
    large = Facts(
        {"arch": "a", "weights": "w"}, 28, 64, "data", "train", {"train": 40_000, "selection": 100, "ID": 100}, 10
    )
    whole = Plan(sweeps.config("runs"), large).activations()
    assert [shard.identity["images"] for shard in whole.shards] == [[0, 16384], [16384, 32768], [32768, 40000]]
    assert sum(shard.bytes for shard in whole.shards) == whole.bytes
    monkeypatch.setattr(saeft_ray.orchestration.plan, "SHARD", 1 << 15)
    other = Plan(sweeps.config("runs"), large).activations()
    assert len(other.shards) == 2
    assert (other.key, other.identity) == (whole.key, whole.identity)


def test_a_trial_in_bf16_tunes_and_evaluates_in_bf16_and_reads_features_of_bf16(tmp_path):
    train = {**sweeps.SMALL["train"], "precision": "bf16"}
    plan, store, _ = sweeps.opened(sweeps.config(tmp_path, methods={"ft": {}, "mse": {"lambda_mse": 3}}, train=train))
    model = TrialContext(plan, store, Worker(), False).frozen().eval()  # what a trial tunes and evaluates
    assert model.precision == "bf16"
    stored = frozen_embeddings.load(artifacts.ensure(plan.activations(), plan, store, CPU))[:256, 0]
    pixels = plan.config.data.split("train", 28).views(np.arange(256), np.zeros(256, int), plan.view_seed)
    with torch.no_grad():
        assert np.array_equal(stored, model.embed(pixels).numpy())
        model.precision = "fp32"
        assert not np.array_equal(stored, model.embed(pixels).numpy())
