"""What people say of things they bought: words of the reviews, in two languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.core.catalogue.words import Form, Language


@dataclass(frozen=True)
class Opinions:
    """The words of one language, as `str.format` templates.

    Attributes:
        aspects: what one may have an opinion of, as the subject of a sentence, by form.
        good: adjectives that praise any aspect.
        bad: those that blame it.
        says: how an adjective is put; the text says what it says.
        denies: the same so that the text says the opposite.
        even: an aspect that is neither; names `aspect`.
        verdicts: by intensity, from 0 (hates it) to 4 (loves it); may name `kind`.
        facts: no opinion at all; may name `kind` and `use`.
        asides: good and bad things that have nothing to do with the product.
        hedges: put before a sentence; it still says what it says.
        turns: between two statements of which the second is what counts.
        balances: between two statements that are worth the same.

    """

    aspects: Mapping[Form, tuple[str, ...]]
    good: tuple[str, ...]
    bad: tuple[str, ...]
    says: tuple[str, ...]
    denies: tuple[str, ...]
    even: tuple[str, ...]
    verdicts: tuple[tuple[str, ...], ...]
    facts: tuple[str, ...]
    asides: tuple[tuple[str, ...], tuple[str, ...]]
    hedges: tuple[str, ...]
    turns: tuple[str, ...]
    balances: tuple[str, ...]


_EN = Opinions(
    aspects={
        "object": ("the finish", "the build", "the weight", "the size", "the colour", "the material", "the stitching",
                   "the manual", "the price", "the way it feels in the hand", "the design"),
        "consumable": ("the smell", "the quality", "the price", "the texture", "the portion", "the packet",
                       "the label", "the consistency", "the freshness", "the aftertaste"),
        "book": ("the plot", "the prose", "the pacing", "the ending", "the print", "the paper", "the translation",
                 "the dialogue", "the first half", "the cast of characters", "the price"),
    },
    good=("excellent", "lovely", "impressive", "well thought out", "spot on", "convincing", "first-rate", "pleasing",
          "superb", "solid", "a joy"),
    bad=("poor", "disappointing", "shoddy", "off-putting", "careless", "a letdown", "second-rate", "annoying",
         "unconvincing", "dreadful", "a mess"),
    says=("{aspect} is {adjective}", "{aspect} is really {adjective}", "{aspect} is, frankly, {adjective}",
          "I find that {aspect} is {adjective}", "{aspect} turned out to be {adjective}",
          "everybody at home agrees that {aspect} is {adjective}"),
    denies=("{aspect} is not {adjective} at all", "{aspect} is anything but {adjective}",
            "nobody could call it {adjective}, I mean {aspect}", "I would not say that {aspect} is {adjective}",
            "I had read that {aspect} is {adjective}; it is not", "{aspect} is far from {adjective}"),
    even=("{aspect} is about average", "{aspect} is as one would expect", "{aspect} is acceptable, no more, no less",
          "I have no strong feelings about it either way, least of all about {aspect}",
          "{aspect} is neither here nor there"),
    verdicts=(
        ("I want my money back.", "Stay away from this {kind}.", "It went straight into the bin.",
         "Never again.", "The worst {kind} I have ever owned.", "I regret every penny.",
         "I would give it no star if I could.", "I would not wish this {kind} on anyone."),
        ("I had hoped for more.", "I would not buy this {kind} again.", "Not worth what it costs.",
         "I cannot say I am happy with it.", "I will look for another {kind}.",
         "It did not live up to its description.",
         "I hardly use it, and not without sighing.", "There are better ones for less."),
        ("It does what it says, no more.", "Neither a bargain nor a mistake.", "Fine, but I would not miss it.",
         "Good in parts, bad in parts.", "I can take it or leave it.", "An ordinary {kind}.",
         "Some will like it, some will not; I am undecided.", "It is okay, I suppose."),
        ("I am glad I bought it.", "I would buy this {kind} again.", "There is nothing to complain about.",
         "Money well spent.", "Not bad at all.", "It has earned its place here.",
         "I was doubtful at first and was wrong.", "Happy with it so far."),
        ("I could not be happier.", "The best {kind} I have ever owned.", "I have told all my friends to get one.",
         "I cannot find a single fault.", "I would not give it back for anything.", "Five stars are not enough.",
         "I love it.", "Why did I wait so long to get this {kind}?"),
    ),
    facts=("I bought the {kind} two months ago.", "This is my second {kind}.", "I got it for {use}.",
           "A present from my sister.", "We use it for {use}.", "I compared it with three others before ordering.",
           "My neighbour has the same {kind}.", "It replaced an old one.", "I have had this {kind} since spring."),
    asides=(
        ("Delivery was quick.", "The seller was friendly.", "The parcel came a day early.", "It was nicely wrapped."),
        ("Delivery took three weeks.", "The box arrived torn.", "The courier left it in the rain.",
         "The seller never answered my mail."),
    ),
    hedges=("To be fair, ", "I suppose ", "It may be just me, but ", "As far as I can tell, ", "So far, ",
            "Compared with my last one, ", "Honestly, "),
    turns=("Still, ", "But in the end: ", "All the same, ", "Even so, ", "And yet: ", "That hardly matters, though: "),
    balances=("On the other hand, ", "At the same time, ", "But then ", "It evens out, because "),
)  # fmt: skip

_ZH = Opinions(
    aspects={
        "object": ("做工", "手感", "重量", "尺寸", "颜色", "材质", "说明书", "价格", "设计", "细节", "包边"),
        "consumable": ("气味", "品质", "价格", "质地", "分量", "包装袋", "标签", "口感", "新鲜度", "余味"),
        "book": ("情节", "文笔", "节奏", "结尾", "印刷", "纸张", "翻译", "对话", "前半部分", "人物", "价格"),
    },
    good=("出色", "讨人喜欢", "让人惊喜", "用心", "到位", "有说服力", "一流", "舒服", "漂亮", "扎实", "讲究"),
    bad=("差劲", "让人失望", "粗糙", "让人反感", "敷衍", "拖后腿", "二流", "烦人", "没有说服力", "糟糕", "乱七八糟"),
    says=("{aspect}很{adjective}", "{aspect}真的{adjective}", "说实话{aspect}挺{adjective}",
          "我觉得{aspect}{adjective}", "{aspect}用下来相当{adjective}", "家里人都说{aspect}{adjective}"),
    denies=("{aspect}一点都不{adjective}", "{aspect}谈不上{adjective}", "谁也不会说{aspect}{adjective}",
            "我不觉得{aspect}{adjective}", "看评论说{aspect}{adjective}，其实不是", "{aspect}离{adjective}差得远"),
    even=("{aspect}一般般", "{aspect}和想的差不多", "{aspect}还过得去，仅此而已", "对{aspect}没什么感觉",
          "{aspect}不好不坏"),
    verdicts=(
        ("只想退货。", "千万别买这款{kind}。", "直接扔进垃圾桶了。", "再也不会买了。", "用过最差的{kind}。",
         "一分钱都花得冤枉。", "能打零星就打零星。", "谁买谁后悔。"),
        ("本来期待更高。", "不会再买这款{kind}。", "不值这个价。", "实在谈不上满意。", "打算换一款{kind}。",
         "和描述的不是一回事。", "基本闲置了。", "同样的钱有更好的选择。"),
        ("能用，仅此而已。", "不算捡到便宜，也不算上当。", "还行，没有也无所谓。", "有好有坏。", "可买可不买。",
         "一款普普通通的{kind}。", "有人会喜欢，有人不会，我说不准。", "凑合吧。"),
        ("买得挺值。", "会回购这款{kind}。", "挑不出什么毛病。", "对得起这个价。", "真不错。", "在家里有了一席之地。",
         "一开始还怀疑，是我想多了。", "目前用着挺满意。"),
        ("满意得不能再满意。", "用过最好的{kind}。", "已经推荐给所有朋友。", "找不到一个缺点。", "给多少钱都不换。",
         "五颗星都不够。", "太喜欢了。", "怎么没早点买这款{kind}？"),
    ),
    facts=("两个月前买的{kind}。", "这是第二次买{kind}。", "看中它适合{use}。", "姐姐送的。",
           "听说适合{use}，就下单了。", "下单前对比了三款。", "邻居家也是同款{kind}。", "用来替换旧的那个。",
           "春天买的{kind}。"),
    asides=(
        ("快递很快。", "卖家态度好。", "提前一天就到了。", "包得很仔细。"),
        ("快递走了三个星期。", "箱子到的时候破了。", "快递员把它扔在雨里。", "卖家一直不回消息。"),
    ),
    hedges=("平心而论，", "可能是我的问题，", "就目前来看，", "和上一个比，", "说真的，", "个人感觉，"),
    turns=("不过总的来说，", "但话说回来，", "尽管如此，", "即便这样，", "但这不重要，"),
    balances=("另一方面，", "同时，", "可是，", "算是扯平，因为"),
)  # fmt: skip

OPINIONS: Mapping[Language, Opinions] = {"en": _EN, "zh": _ZH}
