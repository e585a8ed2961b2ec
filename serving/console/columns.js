// Which columns of this catalogue say what: nothing but their names and types is known beforehand.

const CATEGORY = ["categories", "category", "genres", "genre", "topics", "type", "department"];
const SMALL = ["brand", "price", "year", "author", "language"];

export function roles(known) {
  const names = known.columns.map((column) => column.name);
  const categorical = known.columns.filter((column) => column.values && column.type !== "bool" && Object.keys(column.values).length > 1);
  const category = categorical.find((column) => CATEGORY.includes(column.name)) || categorical[0] || null;
  const title = names.includes("title") ? "title" : names.includes("name") ? "name" : known.item_text.find((name) => names.includes(name)) || "text";
  const small = SMALL.filter((name) => names.includes(name) && name !== category?.name);
  return { title, category, small, fields: [...new Set([title, ...(category ? [category.name] : []), ...small])] };
}

export function show(value) {
  if (Array.isArray(value)) return value.map(show).filter(Boolean).join(" · ");
  if (value !== null && typeof value === "object") return JSON.stringify(value);
  return value === null || value === undefined ? "" : String(value);
}

export function titleOf(item, role) {
  return show(item.metadata?.[role.title]).slice(0, 140) || item.item_id;
}

export function lineOf(item, role) {
  const names = [...(role.category ? [role.category.name] : []), ...role.small];
  return names.map((name) => show(item.metadata?.[name])).filter(Boolean).join(" · ");
}
