"""Chinese sentences for products and for people."""

from pipelines.core.catalogue.words import Form, Phrases

_OPENERS: dict[Form, tuple[str, ...]] = {
    "object": (
        "这款{adj_kind}采用{material}，{feature}。",
        "专为{use}设计的{kind}，{feature}，{feature2}。",
        "{brand}的这款{kind}，{feature}，很适合{use}。",
        "想找一款适合{use}的{kind}，不妨看看它。",
        "{material}打造的{adj_kind}，越用越顺手。",
        "我们花了一年多打磨这款{kind}：{feature}，{feature2}。",
        "{feature}，{feature2}，这款{kind}在细节上下足了功夫。",
        "老顾客回购很多的{kind}，尤其适合{use}。",
        "一款实实在在的{adj_kind}，{feature}。",
        "店里同事自己也在用的{kind}，{feature}。",
        "用过不少{kind}，最后留下的是它：{feature}，{feature2}。",
        "{brand}今年新出的{adj_kind}，{feature}。",
        "从选料到做工都不将就的一款{kind}，{feature}。",
        "送朋友或自己用都合适的{adj_kind}，{feature}，{feature2}。",
        "{adj_kind}，{material}材质，{feature}，适合{use}。",
        "{material}配上好做工，这款{adj_kind}值得留在手边。",
        "选{material}，是因为它经得起天天用，这款{kind}也是。",
    ),
    "consumable": (
        "选用{material}，{feature}。",
        "这款{adj_kind}，{feature}，适合{use}。",
        "{brand}小批量出品的{adj_kind}，{feature}。",
        "{feature}，{feature2}，是很多人一买再买的{kind}。",
        "试过几十种之后，我们留下了这款{kind}，{feature}。",
        "以{material}为主料的{kind}，很适合{use}。",
        "好评最多的{kind}之一：{feature}。",
        "{adj_kind}，{feature}，{feature2}，适合{use}。",
    ),
    "book": (
        "一本{adj_kind}，{feature}。",
        "{feature}，{feature2}，是近来少见的好{kind}。",
        "{brand}新近推出的{adj_kind}，适合{use}。",
        "这本{kind}{feature}，口碑一直很好。",
        "作者用十年写成的{kind}，{feature}。",
        "绝版多年后重新上架的{adj_kind}，{feature}。",
        "翻开这本{kind}就停不下来，{feature}。",
        "一本适合{use}的{adj_kind}，{feature}。",
    ),
}

_FEATURE_LINES: dict[Form, tuple[str, ...]] = {
    "object": (
        "{feature}。",
        "另外，{feature}。",
        "{feature}，{feature2}。",
        "值得一提的是，{feature}。",
        "细节也到位：{feature}。",
        "不少人就是冲着这一点来的：{feature}。",
    ),
    "consumable": ("{feature}。", "主要原料是{material}。", "而且{feature}。", "{feature}，用过的人都说好。"),
    "book": ("{feature}。", "书中亮点不少：{feature}，{feature2}。", "读者常提到：{feature}。"),
}

_USE_LINES: dict[Form, tuple[str, ...]] = {
    "object": (
        "适合{use}。",
        "{use}尤其合适。",
        "无论是{use}还是{use2}，都用得上。",
        "想着{use}的话，选它不会错。",
        "说到{use}，它很拿得出手。",
    ),
    "consumable": ("适合{use}。", "特别适合{use}。", "{use}，{use2}，都合适。"),
    "book": ("适合{use}。", "推荐：{use}。", "{use}，再合适不过。"),
}

_ADJECTIVES: dict[Form, dict[str, tuple[str, ...]]] = {
    "object": {
        "budget": ("平价", "高性价比", "实惠"),
        "premium": ("高端", "匠心", "旗舰"),
        "minimalist": ("极简", "素色", "简约"),
        "colourful": ("撞色", "亮色", "彩色"),
        "beginner": ("入门", "新手友好型", "易上手"),
        "expert": ("专业", "进阶", "专业级"),
        "eco": ("环保", "低碳", "可持续"),
        "large": ("大号", "加大", "大容量"),
        "compact": ("便携", "轻巧", "迷你"),
    },
    "consumable": {
        "budget": ("平价", "日常", "实惠装"),
        "premium": ("珍藏", "高端", "限量"),
        "minimalist": ("纯净", "无添加", "极简配方"),
        "colourful": ("风味浓郁型", "活力", "缤纷"),
        "beginner": ("入门", "温和", "新手友好型"),
        "expert": ("专业", "进阶", "老手向"),
        "eco": ("有机", "环保", "低碳"),
        "large": ("家庭装", "大包装", "囤货装"),
        "compact": ("旅行装", "小包装", "尝鲜装"),
    },
    "book": {
        "budget": ("平装", "实惠版", "口袋价"),
        "premium": ("精装", "典藏版", "布面精装"),
        "minimalist": ("文字克制的", "素净的", "安静的"),
        "colourful": ("全彩插图", "热闹的", "色彩浓烈的"),
        "beginner": ("通俗易懂的", "入门级", "好读的"),
        "expert": ("硬核", "考据扎实的", "有门槛的"),
        "eco": ("再生纸印刷的", "环保油墨印制的", "低碳印刷的"),
        "large": ("大部头", "厚重的", "长篇"),
        "compact": ("薄薄的", "短小的", "口袋本"),
    },
}

_STYLE_LINES: dict[Form, dict[str, tuple[str, ...]]] = {
    "object": {
        "budget": ("价格亲民，学生党也买得起。", "花小钱办大事。", "同样的做工，很难找到更便宜的。"),
        "premium": ("价格不低，但能用很多年。", "每一件都由师傅手工检验。", "用料不惜成本，送人自用都体面。"),
        "minimalist": ("没有多余的装饰，颜色也安静。", "线条干净，放在哪里都不突兀。", "设计能省则省。"),
        "colourful": (
            "配色活泼，看着心情就好。",
            "花纹大胆，绝不会和别人拿错。",
            "橙、青、粉三色拼接，很抢眼。",
        ),
        "beginner": ("零基础也能用，附图文教程。", "刚入门的话，从它开始准没错。", "上手简单，不怕出错。"),
        "expert": ("给真正懂行的人准备。", "可调的地方很多，老手会喜欢。", "不建议新手直接入手。"),
        "eco": ("尽量使用回收材料，坏了也能修。", "包装不含塑料，旧件可寄回回收。", "生产用的是可再生能源。"),
        "large": ("分量足，一家人也够用。", "尺寸大，用起来不局促。"),
        "compact": ("收起来只有一点点大。", "份量轻，收放都省心。", "小户型也放得下。"),
    },
    "consumable": {
        "budget": ("价格实在，用完再买也不心疼。", "日常消耗，买它最划算。"),
        "premium": ("产量有限，值得留给特别的日子。", "手工包装，是一份小小的奢侈。"),
        "minimalist": ("成分简单，没有多余添加。", "包装朴素，心思都花在里面。"),
        "colourful": ("个性鲜明，铁罐也好看得舍不得扔。", "热闹又有趣。"),
        "beginner": ("第一次尝试也不会出错。", "附有清楚的说明，新手放心。"),
        "expert": ("适合已经有自己偏好的老手。", "业内人士常年整箱订购。"),
        "eco": ("有机认证，包装可堆肥。", "公平贸易，运输全程碳中和。"),
        "large": ("一大包，能用上好几个月。", "量大管够，适合人多的家庭。"),
        "compact": ("小小一份，随身带也方便。", "分量不多，先试试再说。"),
    },
    "book": {
        "budget": ("平装本，价格实惠。", "定价很低，学生也买得起。"),
        "premium": ("锁线精装，附书签带和函套。", "限量编号，用的是厚实的米色纸。"),
        "minimalist": ("文字干净，没有一句废话。", "封面素净，内容耐读。"),
        "colourful": ("几乎每页都有彩图。", "封面摆在书架上就很亮眼。"),
        "beginner": ("不需要任何基础就能读。", "写给初次接触的读者。"),
        "expert": ("读起来要费些力气，但很值得。", "注释详尽，内行会喜欢。"),
        "eco": ("用再生纸和植物油墨印刷。", "每卖出一本就种下一棵树。"),
        "large": ("八百页的大部头，一页也不嫌多。", "够读完整个假期。"),
        "compact": ("一个下午就能读完。", "开本小，大衣口袋也放得下。"),
    },
}

_HOBBY_LINES = (
    "周末喜欢{hobby}。",
    "平时喜欢{hobby}，也爱{hobby2}。",
    "最近迷上了{hobby}。",
    "空下来就想{hobby}。",
    "业余时间主要用来{hobby}和{hobby2}。",
    "喜欢{hobby}、{hobby2}，偶尔也{hobby3}。",
    "爱好很杂：{hobby}、{hobby2}、{hobby3}。",
    "周末不是{hobby}就是{hobby2}，最近还想学着{hobby3}。",
    "生活不能没有{hobby}。",
    "被朋友带着开始{hobby}，一发不可收拾。",
    "爱{hobby}，有空也会{hobby2}。",
    "下班以后最放松的事就是{hobby}。",
)

_SELF_STYLE_LINES: dict[str, tuple[str, ...]] = {
    "budget": ("预算有限，便宜好用就行。", "买东西比较看重性价比。"),
    "premium": ("宁愿贵一点，也要用得久。", "东西少而精，品质第一。"),
    "minimalist": ("喜欢简单素净的东西。", "家里尽量不放多余的物件。"),
    "colourful": ("喜欢鲜艳的颜色。", "太素的东西提不起兴趣。"),
    "beginner": ("还是新手，请多推荐简单的。", "刚入门，什么都想试试。"),
    "expert": ("玩了很多年，算是老手。", "一般只用专业级的装备。"),
    "eco": ("尽量买环保、能修的东西。", "比较在意是不是可持续。"),
    "large": ("家里人多，东西要大一点。", "地方宽敞，喜欢大件。"),
    "compact": ("住的地方小，不要太占地方。", "喜欢轻便、好收纳的。"),
}

# fmt: off
# Word lists: wrapped like prose, for the formatter would give every word a line.
_OBJECT_MODELS: tuple[str, ...] = (
    "听风", "望岳", "归林", "栖迟", "小暑", "青野", "白露", "远帆", "知秋", "云起", "松间", "流萤", "拾阶",
    "鹿鸣", "星野", "半夏", "惊蛰", "行舟",
)
_CONSUMABLE_MODELS: tuple[str, ...] = (
    "晨光", "初雪", "山雨", "春信", "月白", "暖阳", "松风", "花间", "浮生", "微醺", "清欢", "朝露", "竹影",
    "晴川",
)
_COLOURS: tuple[str, ...] = (
    "苔绿", "石墨灰", "沙色", "藏青", "砖红", "炭黑", "米白", "姜黄", "雾蓝", "浅驼",
)
_BOOK_ADJECTIVES: tuple[str, ...] = (
    "沉默", "雾中", "借来", "未完成", "隐秘", "燃烧", "午夜", "缓慢", "遥远", "玻璃般", "失落", "无人知晓",
)
_BOOK_NOUNS: tuple[str, ...] = (
    "灯塔", "果园", "钟表匠", "图书馆", "岛屿", "长桥", "厨房", "冬夜", "山谷", "档案", "渡口", "麻雀",
    "集市", "河流", "天文台", "来客",
)
# fmt: on

PHRASES_ZH = Phrases(
    openers=_OPENERS,
    feature_lines=_FEATURE_LINES,
    use_lines=_USE_LINES,
    adjectives=_ADJECTIVES,
    style_lines=_STYLE_LINES,
    hobby_lines=_HOBBY_LINES,
    self_style_lines=_SELF_STYLE_LINES,
    models={"object": _OBJECT_MODELS, "consumable": _CONSUMABLE_MODELS, "book": ()},
    colours=_COLOURS,
    book_titles=(
        "{adjective}的{noun}",
        "{noun}与{noun2}",
        "{noun}来信",
        "去{noun}的路上",
        "{noun}里的{noun2}",
        "最后的{noun}",
    ),
    book_adjectives=_BOOK_ADJECTIVES,
    book_nouns=_BOOK_NOUNS,
)
