"""The generator of each label, as filling needs it and as plans record it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fgaug.bank import Source
from fgaug.errors import SnapshotError
from fgaug.grid.generators import Generator
from fgaug.study.fake_needs import FakeNeeds
from fgaug.study.fake_source import FakeSource
from fgaug.study.plan import Plan

if TYPE_CHECKING:
    from gan_worker.filling.label_generators import LabelSource


def check_critics(planned: Plan, needs: FakeNeeds) -> None:
    """Check that the discriminators can score the fakes, before any fake is generated.

    Raises:
        SnapshotError: a file has no discriminator, or one for another image size.
    """
    if not any(name == "discriminator" for _, name in planned.unscored(needs)):
        return
    from gan_worker.filling.label_generators import network_file
    from gan_worker.generators.critic import Critic

    spec = needs.source.spec
    for label, snapshot in needs.source.generator.snapshots.items():
        critic = Critic(network_file(snapshot.file), class_index=snapshot.class_index)
        if (critic.size, critic.channels) != (spec.size, spec.channels):
            raise SnapshotError(
                f"The discriminator of `{label}` takes images of {critic.size} px and "
                f"{critic.channels} channels, but the dataset has {spec.size} px and "
                f"{spec.channels}. Drop `logit` from the filters, or prepare the dataset at the "
                "network's size."
            )


def label_sources(source: FakeSource) -> dict[str, LabelSource]:
    """Return the source of each label in the form that gan_worker takes."""
    return {label: _label_source(label, source.generator) for label in source.spec.sources}


def describe_source(label: str, generator: Generator) -> Source:
    from gan_worker.filling.label_generators import describe

    return describe(label, _label_source(label, generator))


def _label_source(label: str, generator: Generator) -> LabelSource:
    from gan_worker.filling.label_generators import LabelSource

    if not generator.snapshots:
        return LabelSource(kind=generator.kind)
    snapshot = generator.snapshots[label]
    return LabelSource(
        kind=generator.kind,
        file=snapshot.file,
        class_index=snapshot.class_index,
        python=generator.python,
        repo=generator.repo,
        program=generator.program,
        prefix=generator.prefix,
    )
