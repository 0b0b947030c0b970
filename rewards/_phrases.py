"""Phrases by which an answer says that it gives none, denies one, or only bounds it."""

import re

_JUDGE = (
    r"(?:determined?|tell|told|say|said|answer(?:ed)?|know|known|see|seen|find|found|calculated?|computed?|"
    r"concluded?|inferr?e?d?|solved?|identif(?:y|ied)|provided?|given?|worked? out|decided?|judged?|"
    r"establish(?:ed)?|count(?:ed)?|measured?|read|sure|certain|help|view|access|make out|deduced?|estimated?|"
    r"specif(?:y|ied)|confirm(?:ed)?|process|assist|display(?:ed)?|load(?:ed)?)"
)
REFUSAL = re.compile(
    r"\bn ?/ ?a\b|\bnan\b|"
    rf"\b(?:cannot|can ?not|can['’]?t|could ?not|couldn['’]?t|unable to|impossible to|no way to|not possible to|"
    rf"(?:hard|difficult) to|(?:not|n['’]t) (?:be )?able to|fail(?:ed|s)? to) (?:\w+ ){{0,2}}?(?:be )?{_JUDGE}\b|"
    r"\b(?:not|n['’]t) (?:have )?(?:enough|sufficient|any)\b|\binsufficient\b|"
    r"\b(?:do not|don['’]?t|does not|doesn['’]?t) (?:know|have (?:\w+ )?(?:information|data|context|access))\b|"
    r"\bnot (?:sure|certain|(?:clearly )?visible|clear|specified|determin\w+|answerable|applicable|available|"
    r"(?:explicitly )?(?:given|provided|shown|stated|mentioned))\b|"
    r"\b(?:undetermin\w+|indetermina\w+|unknown|unclear|unanswerable|inconclusive)\b|"
    r"\bno (?:\w+ ){0,2}?(?:answers?|ideas?|clues?|way|images?|pictures?|photos?|data|info(?:rmation)?|evidence|"
    r"context|details?|indications?|options?|choices?|comment|response|results?|solutions?|opinion|input|content|"
    r"knowledge|conclusions?|means|possibility|guess|reference|text|description|figure|diagram|"
    r"question|one (?:can|knows|could))\b|"
    r"\b(?:sorry|apologi[sz]e)\b|\bas an ai\b|"
    r"无法|不能(?:确定|判断|回答|计算|得出)|不确定|不知道|不清楚|信息不足|条件不足|没有(?:足够|答案|图)|看不(?:清|到|出)",
    re.IGNORECASE,
)
"""An answer that gives none: "N/A", "it cannot be determined", "no idea", 无法确定."""

_THAN = r"(?:more|less|fewer|greater|larger|bigger|higher|lower|smaller|longer|shorter|older|younger|over|other|\w+er|不)"
_ABOUT = r"(?:about|around|roughly|approximately|or equal to|exactly)"
BOUND = re.compile(
    rf"\b{_THAN} than (?:{_ABOUT} )?[a-z]{{0,4}} ?#|"
    r"\b(?:at (?:the )?(?:least|most|minimum|maximum)|up to|no (?:more|less|fewer|greater|later|earlier) than|"
    r"over|under|above|below|beyond|exceed(?:s|ing)?|upwards? of|(?:a )?(?:minimum|maximum) of|"
    rf"(?:upper|lower) bound(?: (?:of|is))?|not exceeding|between|within|outside|until|before|after|"
    rf"almost|nearly|barely|close to|just short of) (?:{_ABOUT} )?#|"
    r"# ?(?:\w+ )?(?:or|and|&) (?:more|less|fewer|over|under|above|below|up|upwards?|higher|lower|greater|larger|"
    r"smaller|older|younger|later|earlier|beyond|counting)\b|"
    r"# ?(?:\w+ )?(?:at (?:the )?(?:least|most|minimum|maximum)|minimum|maximum|max|min|upwards|plus|-?ish|tops)\b(?! (?:is|of|value))|"
    r"(?:至少|至多|最多|最少|不少于|不多于|不超过|不低于|不高于|不足|不到|超过|大于|小于|多于|少于|高于|低于|将近|接近|约?近) ?#|"
    r"# ?[^\W\d_]?(?:以上|以下|以内|以外|之上|之下|开外|多(?!边)|余|或更|左右不)|"
    r"[<>≤≥≦≧⩽⩾≪≫≲≳]|\\(?:l|g|n?leq?|n?geq?|leqslant|geqslant|lt|gt|ll|gg|less|gtr)(?:qq|sim)?(?![A-Za-z])|&[lg]t;",
    re.IGNORECASE,
)
"""A bound, where # stands for a number: "at least #", "# or more", "≥ #", 至少#."""

DENIAL = re.compile(
    r"(?:\bnot\b|n['’]t\b|[≠¬±∓]|\\(?:neq?|not|pm|mp)(?![a-z]))[^#,;:.]{0,40}#|"
    r"\b(?:neither|nor|never|none|cannot|can['’]t|can not|must not|won['’]t|(?:anything|everything|all|any number) (?:but|except)|except(?: for)?|instead of|rather than|"
    r"other than|different from|unlike|unequal to|wrong|incorrect|false|excluding|without)\b[^#,;:.]{0,20}#|"
    r"#(?:, which)?[^#,;.]{0,12}? (?:is|are|was|do|does|did|has|will|would|could|should|can|may|"
    r"seems|looks|sounds) (?:be )?(?:\w+ly |\w+ so )?(?:not|wrong|incorrect|false|"
    r"impossible|too|untrue|unlikely|invalid|mistaken|off|excluded|ruled)\b|"
    r"#[^#,;.]{0,12}?(?:isn|aren|wasn|wouldn|doesn|can)['’]?t\b|"
    r"#[ ,;:.?!(]{0,3}(?:no|wrong|incorrect|false|is it|maybe|perhaps|unlikely)\b(?! other)|"
    r"# not\b|# ?\?|\?!|不是[^#]{0,6}#|不等于|并非|#[^#]{0,4}(?:是错|错误|不对|不正确)",
    re.IGNORECASE,
)
"""A number that is denied, or doubted: "not #", "# is wrong", "anything but #"."""

EXPRESSION = re.compile(
    r"\\(?!(?:angle|triangle|odot|therefore|because|Rightarrow|implies|quad|overline|widehat)(?![A-Za-z])|(?:alpha|beta|gamma|delta|theta|phi|varphi|lambda|mu|omega) ?=)[A-Za-z]|"
    r"# ?[,;] ?#|[√∛π^Σ∑∫]|\\(?:sqrt|pi|[cdt]?frac|binom|sum|int|log|ln|sin|cos|tan|cot)(?![A-Za-z])|\b(?:sqrt|pi)\b|"
    r"[+*/×÷·∙⋅_|\\] ?[({\[]* ?[+-]?#|#[)}\]]* ?[+*/×÷·∙⋅_|\\]|#\)? ?!|[+-] ?#|"
    r"#[)\w]* ?[-‐‑‒–—] ?\(?(?:#|[A-Za-z](?![a-z]))|(?<![\w-])(?:[A-Za-z]|[A-Z]{2,3}) ?[-–] ?#|(?:∠|\\angle) ?#|#\)? ?(?:∠|\\angle)|#\)? ?\(?#|#\([^)]*[-+*/^=]|"
    r"# ?(?:plus|minus|times #|times [a-z]\b|over|choose|mod|modulo|(?:divided|multiplied) by|to the power|squared|cubed|"
    r"factorial|raised|percent of|%? of (?:#|[a-z]\b)|in base|base)\b|\b(?:plus|minus|times|by|power|base) #|"
    r"# ?x ?#|# ?: ?#|#[%°]? ?% ?of\b|"
    r"(?<![^\W\d_])(?:a(?:rc)?)?(?:log|ln|lg|exp|sine?|cos(?:ine)?|tan(?:gent)?|cot|sec|csc|root|square|cube|"
    r"factorial|twice|double|triple|half|third|quarter|reciprocal|inverse|opposite|absolute value)(?: of)? ?[_(]{0,2}#",
    re.IGNORECASE,
)
"""A number that is part of something to be worked out: "# + x", "2√3", "twice #", "# squared"."""
