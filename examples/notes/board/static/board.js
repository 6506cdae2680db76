// Small comforts; every page is complete without them.

// Count characters while someone types. The server counts them the same way, and decides.
for (const help of document.querySelectorAll("[data-counts]")) {
  const field = document.getElementById(help.dataset.counts);
  const limit = Number(help.dataset.limit);
  const idle = help.textContent;
  const count = () => {
    const used = [...field.value.trim()].length;
    const left = limit - used;
    help.classList.toggle("over", left < 0);
    if (used === 0) help.textContent = idle;
    else if (left < 0) help.textContent = `${(-left).toLocaleString("en")} too many`;
    else help.textContent = `${left.toLocaleString("en")} left`;
  };
  field.addEventListener("input", count);
  count();
}

// Screen readers announce a status that changes, not one that was there from the start.
const status = document.querySelector("[role=status]");
const message = status?.textContent;
if (message) {
  status.textContent = "";
  requestAnimationFrame(() => { status.textContent = message; });

  // A reload must not claim that it was done again.
  const address = new URL(location.href);
  address.searchParams.delete("done");
  history.replaceState(null, "", address);
}

// Show a password while somebody checks it; it is sent, and remembered by the browser, as a password.
for (const button of document.querySelectorAll("[data-reveals]")) {
  const field = document.getElementById(button.dataset.reveals);
  const show = (shown) => {
    field.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
  };
  button.hidden = false;
  button.addEventListener("click", () => show(field.type === "password"));
  field.form.addEventListener("submit", () => show(false));
}

// Each reader's own clock for the exact time.
for (const time of document.querySelectorAll("time[datetime]")) {
  const exact = new Date(time.dateTime);
  time.title = exact.toLocaleString(undefined, { dateStyle: "long", timeStyle: "short" });
}

// A form that comes back with a complaint still has what was typed, except for passwords.
const KEPT = "typed";
const MAY_BE_KEPT = "input:is([type=email], [type=checkbox])";
const typed = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
sessionStorage.removeItem(KEPT);
const hasComplaint = new URLSearchParams(location.search).has("problem");
for (const field of document.querySelectorAll(MAY_BE_KEPT)) {
  if (!hasComplaint || !(field.name in typed)) continue;
  if (field.type === "checkbox") field.checked = typed[field.name];
  else field.value = typed[field.name];
}
for (const form of document.forms) {
  form.addEventListener("submit", () => {
    const values = [...form.querySelectorAll(MAY_BE_KEPT)].map((field) =>
      [field.name, field.type === "checkbox" ? field.checked : field.value]);
    sessionStorage.setItem(KEPT, JSON.stringify(Object.fromEntries(values)));
  });
}
