"""Phrases by which an answer gives none, denies one, bounds one, or leaves it to be worked out.

In the patterns about numbers a # stands for a number with its unit.
"""

from ._patterns import alternatives, any_of

_FIND_OUT = alternatives(
    r"""determined? tell told say said answer(?:ed)? know known see seen find found calculated? computed?
    concluded? infer(?:red)? solved? identif(?:y|ied) provided? given? worked?_out decided? judged?
    establish(?:ed)? count(?:ed)? measured? read sure certain help view access make_out deduced? estimated?
    specif(?:y|ied) confirm(?:ed)? process assist display(?:ed)? load(?:ed)?"""
)
_CANNOT = alternatives(
    r"""cannot can_?not can['’]?t could_?not couldn['’]?t unable_to impossible_to no_way_to not_possible_to
    hard_to difficult_to not_(?:be_)?able_to n['’]t_(?:be_)?able_to fail(?:ed|s)?_to"""
)
_NOT_HAD = alternatives(
    r"""answers? ideas? clues? way images? pictures? photos? data info(?:rmation)? evidence context details?
    indications? options? choices? comment response results? solutions? opinion input content knowledge
    conclusions? files? attachments? visuals? videos? links? access right_answer certainty preference output
    caption prompt hints? basis photographs? means possibility guess reference text description figure diagram
    question one_(?:can|knows|could)"""
)
REFUSAL = any_of(
    r"\bn ?/ ?a\b",
    r"\bnan\b",
    rf"\b(?:{_CANNOT}) (?:\w+ ){{0,2}}?(?:be )?(?:{_FIND_OUT})\b",
    r"\b(?:not|n['’]t) (?:have )?(?:enough|sufficient|any)\b",
    r"\b(?:do|does)(?: not|n['’]?t) (?:know|have (?:\w+ )?(?:information|data|context|access))\b",
    r"\bnot (?:sure|certain|clear|specified|determin\w+|answerable|applicable|available)\b",
    r"\bnot (?:\w+ly )?(?:visible|given|provided|shown|stated|mentioned)\b",
    r"\b(?:undetermin\w+|indetermina\w+|unknown|unclear|unanswerable|inconclusive|insufficient)\b",
    rf"\bno (?:\w+ ){{0,2}}?(?:{_NOT_HAD})\b",
    r"\b(?:sorry|apologi[sz]e|as an ai)\b",
    "无法|不能(?:确定|判断|回答|计算|得出)|不确定|不知道|不清楚|信息不足|条件不足|没有(?:足够|答案|图)|看不(?:清|到|出)",
)
"""An answer that gives none: "N/A", "it cannot be determined", "no idea", 无法确定."""

_ABOUT = r"(?:(?:about|around|roughly|approximately|or equal to|exactly) )?"
_BEFORE_BOUND = alternatives(
    r"""at_(?:the_)?(?:least|most|minimum|maximum) (?<!add_)(?<!adds_)up_to
    over under above below beyond exceed(?:s|ing)?
    no_(?:more|less|fewer|greater|later|earlier)_than upwards?_of (?:a_)?(?:minimum|maximum)_of
    (?:upper|lower)_bound(?:_(?:of|is))? not_exceeding between within outside until before after almost
    nearly barely close_to just_short_of"""
)
_BEYOND = alternatives(
    r"""more less fewer over under above below up upwards? higher lower greater larger smaller older younger
    later earlier beyond counting"""
)
BOUND = any_of(
    rf"\b(?:more|less|over|other|\w+er) than {_ABOUT}[a-z]{{0,4}} ?#",
    rf"\b(?:{_BEFORE_BOUND}) {_ABOUT}#",
    rf"# ?(?:\w+ )?(?:or|and|&) (?:{_BEYOND})\b",
    r"# ?(?:\w+ )?at (?:the )?(?:least|most|minimum|maximum)\b",
    r"# ?(?:\w+ )?(?:minimum|maximum|max|min|upwards|plus|-?ish|tops)\b(?! (?:is|of|value))",
    "(?:至[少多]|最[多少]|不[少多低高]于|不超过|不足|不到|不止|超过|[大小多少高低]于|将近|接近|约?近) ?#",
    r"# ?[^\W\d_]?(?:以[上下内外]|之[上下]|开外|多(?!边)|余|或更)",
    r"[<>≤≥≦≧⩽⩾≪≫≲≳≮≯⪅⪆∞→]",
    r"\binfinity\b|\bor equal to #|# and some\b",
    r"\b(?:min|max|at_least|at_most|lower_bound|upper_bound)\b[\"':=( ]*#|\b(?:minimum|maximum) #",
    r"\\(?:l|g|n?[lg]eq?|[lg]eqslant|[lg]t|ll|gg|less|gtr)(?:qq|sim)?(?![A-Za-z])",
    "&[lg]t;|#[^#]?起",
)
"""A bound: "at least #", "# or more", "≥ #", 至少#."""

_WRONG = r"(?:not|wrong|incorrect|false|impossible|too|untrue|unlikely|invalid|mistaken|off|excluded|ruled)"
_IS = r"(?:is|are|was|do|does|did|has|will|would|could|should|can|may|seems|looks|sounds)"
_INSTEAD = alternatives(
    r"""neither nor never none cannot can['’]t can_not must_not won['’]t
    (?:anything|everything|all)_(?:but|except)
    any_number_(?:but|except) except(?:_for)? instead_of rather_than other_than different_from unlike
    unequal_to wrong incorrect false excluding without"""
)
DENIAL = any_of(
    # "It is not 5", but neither "not drawn to scale, 65" nor "not acute. It is 95"
    r"(?:\bnot\b|n['’]t\b|[≠¬±∓]|\\(?:neq?|not|pm|mp)(?![a-z]))[^#,;:.]{0,40}#",
    rf"\b(?:{_INSTEAD})\b[^#,;:.]{{0,20}}#",
    rf"#(?:, which)?[^#,;.]{{0,12}}? {_IS} (?:be )?(?:\w+ly |\w+ so )?{_WRONG}\b",
    r"#[^#,;.]{0,12}?(?:isn|aren|wasn|wouldn|doesn|can)['’]?t\b",
    r"#[ ,;:.?!(]{0,3}(?:no|wrong|incorrect|false|is it|maybe|perhaps|unlikely)\b(?! other)",
    r"# not\b",
    r"# ?\?",
    r"\?!|!=|=/=|≠|(?<!\w)! ?#|\bdoubt|# (?:is|was) the wrong\b|\bbesides #|\b(?:none|too \w+): #",
    "不是[^#]{0,6}#|不等于|并非|#[^#]{0,4}(?:是错|错误|不对|不正确)",
)
"""A number that is denied, or doubted: "not #", "# is wrong", "anything but #"."""

_FUNCTION = alternatives(
    r"""log ln lg exp sine? cos(?:ine)? tan(?:gent)? cot sec csc root square cube factorial twice double
    triple half third quarter reciprocal inverse opposite negative absolute_value det gcd lcm"""
)
_OPERATION = alternatives(
    r"""plus minus times_# times_[a-z]\b over choose modulo? (?:divided|multiplied)_by to_the_power
    squared cubed factorial lakhs? crores? sin cos tan cot log ln sqrt pi tens pairs basis_points raised
    percent_of %?_of_(?:#|[a-z]\b) in_base base"""
)
_NAMES = "alpha|beta|gamma|delta|theta|phi|varphi|lambda|mu|omega"
EXPRESSION = any_of(
    "[√∛π^Σ∑∫‰]",
    r"[A-Za-z]'* ?\(#",
    r"[α-ωΑ-Ψ∂∇⌊⌈] ?\(?#|#\)? ?[α-ωΑ-ΨΑ∂∇⌋⌉]|第 ?#|# ?分之",
    r"# ?[-=] ?$|# ?(?:\.\.\.|…)|(?<![\"'])#['′″]",
    # LaTeX that is neither an angle's sign, nor the name in "\alpha = 65"
    r"\\(?!(?:angle|triangle|odot|therefore|because|Rightarrow|implies|quad|overline|widehat)(?![A-Za-z])"
    rf"|(?:{_NAMES}) ?=)[A-Za-z]",
    r"\b(?:sqrt|pi)\b",
    r"# ?[,;] ?#",
    r"[+*/×÷·∙⋅_|\\] ?[({\[]* ?[+-]?#",
    r"#[)}\]]* ?[+*/×÷·∙⋅_|\\]",
    r"#\)? ?!",
    "[+-] ?#",
    r"#[)\w]* ?[-‐‑‒–—] ?\(?(?:#|[A-Za-z](?![a-z]))",
    r"(?<![\w-])(?:[A-Za-z]|[A-Z]{2,3}) ?[-–] ?#",
    r"(?:∠|\\angle) ?#|#\)? ?(?:∠|\\angle)",
    r"#\)? ?\(?#|#\([^)]*[-+*/^=]",
    r"# ?x ?#|# ?: ?#|\|(?-i:[a-z]\w*)\| ?=",
    rf"# ?(?:{_OPERATION})\b|#[%°]? ?% ?of\b",
    r"\b(?:plus|minus|times|by|power|base) #",
    rf"(?<![^\W\d_])(?:a(?:rc)?)?(?:{_FUNCTION})(?: of)? ?[_(]{{0,2}}#",
)
"""A number that is part of something to be worked out: "# + x", "2√3", "twice #", "# squared"."""
