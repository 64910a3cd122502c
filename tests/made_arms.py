"""The arms of the suites and a wording that is easy to read, for tests."""

from dataclasses import dataclass

from probes.core.types import Arm


@dataclass(frozen=True)
class Prompts:
    name: str = "plain"
    between: str = "<{infill}>"
    common: str = ""
    event: str = ""
    condense: str = ""
    letter: str = "{context}Q {question}\n{options}\nletter?"
    cloze: str = "{context}Q {question}"
    generate: str = "{context}Q {question}\n{options}\nreply?"


PROMPTS = Prompts()
BASELINE = Arm("baseline")
VCOT = Arm("vcot", infills="own", reference="baseline")
VISUAL = Arm("visual_perturbation", frames="donor", infills="own", reference="vcot")
TEXT = Arm("text_perturbation", infills="donor", reference="vcot")
BLIND = Arm("blind", frames="none")
INFILLS_ONLY = Arm("infills_only", frames="none", infills="own")
FILLER = Arm("filler", infills="filler")
SHUFFLED = Arm("shuffled", frames="shuffled")
REVERSED = Arm("reversed", frames="reversed")
SINGLE = Arm("single", frames="single")
ARMS = [
    BASELINE, VCOT, VISUAL, TEXT, BLIND, INFILLS_ONLY, FILLER, SHUFFLED, REVERSED, SINGLE,
]  # fmt: skip
