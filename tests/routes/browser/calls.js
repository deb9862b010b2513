// Calls the gateway in every way that tests/routes/browser.rs expects something of, and reports to the
// server that the page came from.

const call = async (path, options, read) => {
  try {
    const answer = await fetch(GATEWAY + path, { credentials: "omit", ...options });
    return await read(answer);
  } catch {
    return "refused";
  }
};
const text = async (answer) => `${answer.status} ${await answer.text()}`;
const reason = async (answer) => `${answer.status} ${(await answer.json()).error.reason}`;
const seen = (answer, name) => (answer.headers.get(name) ? "yes" : "no");
const fields = async (answer) =>
  `${await text(answer)} exposed=${seen(answer, "x-exposed")} hidden=${seen(answer, "x-hidden")}`;

// A frame without allow-same-origin has the origin null.
const fromNull = (path) =>
  new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    frame.srcdoc = `<script>fetch("${GATEWAY + path}", { credentials: "omit" })
      .then((answer) => String(answer.status), () => "refused")
      .then((said) => parent.postMessage(said, "*"));</` + "script>";
    addEventListener("message", (event) => resolve(event.data), { once: true });
    document.body.append(frame);
  });

const calls = async () => ({
  plain: await call("/web", {}, fields),
  preflighted: await call("/web", { method: "PUT", headers: { "x-known": "1" } }, text),
  another_field: await call("/web", { headers: { "x-unknown": "1" } }, text),
  another_method: await call("/web", { method: "DELETE" }, text),
  credentials_not_allowed: await call("/web", { credentials: "include" }, text),
  credentials_allowed: await call("/session", { credentials: "include" }, text),
  credentials_preflighted: await call("/session", { method: "PUT", credentials: "include" }, text),
  any_origin: await call("/any", {}, text),
  any_origin_with_credentials: await call("/any", { credentials: "include" }, text),
  no_cors: await call("/none", {}, text),
  refusal_413: await call("/web", { method: "POST", body: "more than ten bytes" }, reason),
  refusal_405: await call("/get", { method: "POST" }, reason),
  refusal_502: await call("/down", {}, reason),
  null_origin: await fromNull("/null"),
  null_origin_elsewhere: await fromNull("/web"),
});

addEventListener("load", async () => {
  const report = JSON.stringify(await calls());
  await fetch("/done", { method: "POST", body: report });
});
