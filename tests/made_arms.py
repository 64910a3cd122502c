"""The arms of the suites and a wording that is easy to read, for tests."""

from probes.core.prompt_set import PromptSet
from probes.core.types import Arm

PROMPTS = PromptSet(
    name="plain",
    between="<{infill}>",
    common="",
    event="",
    condense="",
    letter="{context}Q {question}\n{options}\nletter?",
    cloze="{context}Q {question}",
    generate="{context}Q {question}\n{options}\nreply?",
)
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
ARMS = [BASELINE, VCOT, VISUAL, TEXT, BLIND, INFILLS_ONLY, FILLER, SHUFFLED, REVERSED, SINGLE]
