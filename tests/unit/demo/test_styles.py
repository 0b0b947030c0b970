import re

from gpg_vl.demo.parts.styles import CSS

GRADIO = "primary|secondary|stop|huggingface|sm|md|lg"
"""Classes that Gradio gives to buttons by their variant and size."""


def test_no_rule_of_ours_meets_buttons_by_their_variant():
    assert not re.findall(rf"(?<![\w-])\.(?:{GRADIO})(?![\w-])", CSS)
