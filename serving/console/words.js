// Every word of the console, in each language. A key that one language lacks is a failure of the tests.

export const WORDS = {
  en: {
    language: "中文", language_label: "Switch to Chinese", language_code: "zh",
    skip: "Skip to the content", nav: "Pages", nav_try: "Try it", nav_new: "New item", nav_versions: "Versions", nav_health: "Health",
    theme: "Dark colours", key: "Key", key_title: "API key", key_label: "Key", key_use: "Use this key", cancel: "Cancel", close: "Close",
    key_text: "Where the service wants a key, paste one that `kindling keys add` made. It stays in this tab and is gone when you close it. Leave it empty to use none.",
    api_docs: "API reference", served: "Version {version}, {items} items",
    not_reached: "The service does not answer. Is it running?", wants_key: "The service wants a key.", lacks_scope: "This key does not open that.",
    try_title: "What would you like?", try_lead: "Say it in your own words. Then press the heart on what you like, and watch the list follow you.",
    who: "Who you are", who_hint: "I spend most weekends hiking and like light, simple gear", want: "What you want now", want_hint: "a tent for two",
    examples: "For example", ex1: "I hike most weekends and like light gear", ex2: "I make filter coffee at home and keep two cats", ex3: "new parent, little time to cook",
    category: "Category", all_categories: "All", more_categories: "More …", remember: "Remember me",
    remember_hint: "Likes are stored under a random visitor name, so they count tomorrow too.", forget: "Forget me",
    remembered_as: "Stored as {id}", forgotten: "Everything stored about you is deleted.",
    liked: "You like", unlike: "No longer like {title}", start_over: "Start over", loading: "Looking …", results: "For you", results_popular: "Popular now",
    empty: "Nothing fits. Take a filter away, or say it in other words.", more: "Show more",
    like: "Like {title}", why: "Why?", why_of: "Why {title}?", liked_one: "Liked {title}.",
    cold: "cold", hot: "hot", temperature: "Temperature", temperature_none: "Nothing is known yet: everybody sees this list.",
    temperature_text: "{words} % from your words, {actions} % from what you like",
    stage_cold: "Only your words speak.", stage_warming: "Your likes begin to speak.", stage_warm: "Your likes speak louder than your words.", stage_hot: "What you do has taken over.",
    moved_new: "new", moved_up: "up {n}", moved_down: "down {n}", changes: "{entered} new, {rose} rose, {fell} fell.", count: "{n} results.", unchanged: "The list stays as it is.",
    part_words: "your words", part_query: "your search", part_profile: "your profile", part_everyone: "what everybody gets", part_text: "this item's text", part_others: "what others did", part_exploration: "something new to try", part_rule: "rule: {name}", part_actions: "your likes", part_popularity: "popularity", part_item: "you liked {title}",
    reason_bar: "Where the score comes from: {parts}", reason_part: "{name} {share} %",
    source_text: "by text", source_fold_in: "by your likes", source_hot: "by behaviour", source_fallback: "popular",
    source_text_long: "The item or you are known by text alone.", source_fold_in_long: "What you just liked took part, solved exactly for this list.",
    source_hot_long: "You and the item are both known by behaviour.", source_fallback_long: "Nothing is known of you, so this is what most people want.",
    why_parts: "How the score of {score} adds up", why_about: "About it", similar: "Similar items", similar_none: "No similar items.", similarity: "{share} % alike", rank: "Place {n}",
    new_title: "Whom would a new item reach?", new_lead: "Describe something nobody has seen yet. It is placed by its text alone, and nothing is stored.",
    f_title: "Title", f_description: "Description", f_brand: "Brand", f_categories: "Categories", f_other: "{name}",
    new_hint_title: "Two-person tent", new_hint_description: "Light, waterproof, up in five minutes",
    whom: "Whom do you have in mind?", whom_hint: "I love camping", whom_note: "One person a line, in words they might use.",
    with_ids: "Show ids of users it would reach (wants an admin key)", find_out: "Find out",
    reach: "Reach", reach_text: "Share of {n} known users who would find it among their first places", reach_at: "first {n}", reach_few: "Too few known users to say.",
    median: "Half of them would see it at place {n} or better.", median_far: "For half of them it is beyond place {n}.",
    interests: "What those who would see it like", interests_text: "More often than others do: {share} % against {typical} %", interests_none: "Too few users would see it to say what they have in common.",
    minds: "In their lists", mind_rank: "place {n}", mind_far: "beyond place {n}", neighbours: "Its neighbours", reached_users: "Users it would reach first", no_users: "None among those asked.",
    new_empty: "Give it a title or a description.",
    versions_title: "Published versions", versions_lead: "Each build publishes one. The service follows what is put into service here within seconds, without a pause.",
    version: "Version", created: "Published", figures: "NDCG@{k}: {slice}", in_service: "in service", promote: "Put into service", rollback: "Back to the one before", report: "Report", no_report: "no report",
    promote_ask: "Put {version} into service?", promote_text: "Every file is read and checked first. Requests go on being answered meanwhile.", rollback_ask: "Go back to the version that was in service before?",
    yes: "Yes, do it", waiting: "{version} is being loaded …", now_serving: "{version} is in service.", baseline: "best baseline {value}", damaged: "not whole", refused: "{version} has not taken over. The log of the service says why.",
    slice_cold: "new items", slice_warm: "known items", slice_all: "all items", slice_text_only: "strangers, by their words", slice_query_only: "strangers, by one search", slice_revealed: "strangers, after {n}",
    versions_none: "No versions are here.", versions_off: "This service was started without access to its versions.",
    health_title: "How the service is doing", health_lead: "From its own figures, every two seconds, while this page is open.",
    health_ready: "Ready", health_not: "Not ready", pause: "Pause", resume: "Go on", no_data: "No data yet", metrics_off: "The service offers no figures at /metrics yet.",
    c_requests: "Requests per second", c_latency: "Answer time", c_fallback: "Lists with nothing known", c_batch: "Texts encoded together", c_events: "Events per second", c_lag: "From an event to its receipt", c_age: "Age of the model", half: "p50", most: "p95", now_value: "{name}: now {value}",
    seconds: "last {n} s", minutes: "last {n} min",
  },
  zh: {
    language: "English", language_label: "切换到英文", language_code: "en",
    skip: "跳到正文", nav: "页面", nav_try: "试一试", nav_new: "新商品", nav_versions: "版本", nav_health: "运行状况",
    theme: "深色", key: "密钥", key_title: "API 密钥", key_label: "密钥", key_use: "使用此密钥", cancel: "取消", close: "关闭",
    key_text: "若服务需要密钥，请粘贴由 `kindling keys add` 生成的密钥。它只保存在此标签页中，关闭后即消失。留空则不使用密钥。",
    api_docs: "API 文档", served: "版本 {version}，共 {items} 件商品",
    not_reached: "服务没有响应。它在运行吗？", wants_key: "服务需要密钥。", lacks_scope: "此密钥没有相应权限。",
    try_title: "您想要什么？", try_lead: "用自己的话说出来，再点喜欢的商品旁的心形，看列表如何随您而变。",
    who: "您是谁", who_hint: "周末喜欢在家做手冲咖啡，也养了两只猫", want: "此刻想找什么", want_hint: "双人帐篷",
    examples: "例如", ex1: "周末常去徒步，喜欢轻便的装备", ex2: "在家做手冲咖啡，养了两只猫", ex3: "刚当上父母，没什么时间做饭",
    category: "类别", all_categories: "全部", more_categories: "更多 …", remember: "记住我",
    remember_hint: "喜欢的商品会以一个随机的访客名保存，明天仍然有效。", forget: "忘记我",
    remembered_as: "保存为 {id}", forgotten: "关于您的全部记录已删除。",
    liked: "您喜欢", unlike: "不再喜欢 {title}", start_over: "重新开始", loading: "正在查找 …", results: "为您推荐", results_popular: "热门商品",
    empty: "没有合适的结果。请去掉筛选条件，或换一种说法。", more: "显示更多",
    like: "喜欢 {title}", why: "为什么？", why_of: "为什么推荐 {title}？", liked_one: "已喜欢 {title}。",
    cold: "冷", hot: "热", temperature: "温度", temperature_none: "还一无所知：所有人看到的都是这份列表。",
    temperature_text: "{words} % 来自您的话，{actions} % 来自您的喜好",
    stage_cold: "只有您的话在起作用。", stage_warming: "您的喜好开始起作用。", stage_warm: "您的喜好比您的话更有分量。", stage_hot: "您的行为已占主导。",
    moved_new: "新", moved_up: "上升 {n}", moved_down: "下降 {n}", changes: "{entered} 个新出现，{rose} 个上升，{fell} 个下降。", count: "共 {n} 个结果。", unchanged: "列表没有变化。",
    part_words: "您的话", part_query: "您的搜索", part_profile: "您的资料", part_everyone: "人人都有的部分", part_text: "商品的文字", part_others: "其他人的行为", part_exploration: "尝试新东西", part_rule: "规则：{name}", part_actions: "您的喜好", part_popularity: "热门程度", part_item: "您喜欢 {title}",
    reason_bar: "分数的来源：{parts}", reason_part: "{name} {share} %",
    source_text: "依据文字", source_fold_in: "依据喜好", source_hot: "依据行为", source_fallback: "热门",
    source_text_long: "商品或您只有文字可供了解。", source_fold_in_long: "您刚才的喜好已计入，并为此列表精确求解。",
    source_hot_long: "您和该商品都有行为记录。", source_fallback_long: "对您还一无所知，所以这是大多数人想要的。",
    why_parts: "分数 {score} 的构成", why_about: "商品信息", similar: "相似商品", similar_none: "没有相似商品。", similarity: "相似度 {share} %", rank: "第 {n} 位",
    new_title: "新商品会被谁看到？", new_lead: "描述一件还没有人见过的商品。它只按文字定位，不会保存任何内容。",
    f_title: "标题", f_description: "描述", f_brand: "品牌", f_categories: "类别", f_other: "{name}",
    new_hint_title: "双人帐篷", new_hint_description: "轻便、防水，五分钟搭好",
    whom: "您想到的是哪些人？", whom_hint: "我喜欢露营", whom_note: "每行一个人，用他们可能说的话。",
    with_ids: "显示会看到它的用户 ID（需要管理员密钥）", find_out: "查看",
    reach: "覆盖面", reach_text: "在 {n} 位已知用户中，会在列表前列看到它的比例", reach_at: "前 {n} 位", reach_few: "已知用户太少，无法判断。",
    median: "其中一半会在第 {n} 位或更前看到它。", median_far: "对其中一半用户，它排在第 {n} 位之后。",
    interests: "会看到它的人喜欢什么", interests_text: "比其他人更常见：{share} % 对 {typical} %", interests_none: "会看到它的用户太少，看不出共同点。",
    minds: "在他们的列表中", mind_rank: "第 {n} 位", mind_far: "第 {n} 位之后", neighbours: "与它相近的商品", reached_users: "最先看到它的用户", no_users: "所询问的用户中没有。",
    new_empty: "请填写标题或描述。",
    versions_title: "已发布的版本", versions_lead: "每次构建发布一个版本。在此切换后，服务会在几秒内跟上，不会中断。",
    version: "版本", created: "发布时间", figures: "NDCG@{k}：{slice}", in_service: "服务中", promote: "投入服务", rollback: "回到上一个版本", report: "报告", no_report: "没有报告",
    promote_ask: "将 {version} 投入服务？", promote_text: "会先读取并校验每个文件，其间请求照常得到回答。", rollback_ask: "回到之前服务的版本？",
    yes: "确定", waiting: "正在载入 {version} …", now_serving: "{version} 已投入服务。", baseline: "最佳基线 {value}", damaged: "不完整", refused: "{version} 没有接管服务，原因见服务日志。",
    slice_cold: "新商品", slice_warm: "已知商品", slice_all: "全部商品", slice_text_only: "陌生人，凭自述", slice_query_only: "陌生人，凭一次搜索", slice_revealed: "陌生人，{n} 次行为后",
    versions_none: "这里还没有版本。", versions_off: "此服务启动时未获得版本目录。",
    health_title: "服务运行得如何", health_lead: "打开此页时，每两秒读取一次服务自身的指标。",
    health_ready: "就绪", health_not: "未就绪", pause: "暂停", resume: "继续", no_data: "暂无数据", metrics_off: "服务尚未在 /metrics 提供指标。",
    c_requests: "每秒请求数", c_latency: "响应时间", c_fallback: "一无所知的列表", c_batch: "一次编码的文本数", c_events: "每秒事件数", c_lag: "从事件发生到收到", c_age: "模型的年龄", half: "p50", most: "p95", now_value: "{name}：现在 {value}",
    seconds: "最近 {n} 秒", minutes: "最近 {n} 分钟",
  },
};

const STORED = "kindling.language";
let language = localStorage.getItem(STORED)
  || ((navigator.languages || [navigator.language]).find((l) => /^(zh|en)/i.test(l)) || "en").slice(0, 2).toLowerCase();
if (!(language in WORDS)) language = "en";

export const getLanguage = () => language;

export function setLanguage(code) {
  language = code;
  localStorage.setItem(STORED, code);
}

export function t(key, values = {}) {
  return WORDS[language][key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
}

export const has = (key) => key in WORDS[language];

export const number = (value, digits = 0) =>
  new Intl.NumberFormat(language, { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value);

// The words that stand in the page itself.
export function translatePage() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.dataset.tLabel));
}
