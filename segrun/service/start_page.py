"""The page at /: an image is dropped or chosen, and its classes appear. It asks for nothing from elsewhere."""

HEADERS = {"Content-Security-Policy": "default-src 'none'; img-src blob: data:; connect-src 'self'; "
           "style-src 'unsafe-inline'; script-src 'unsafe-inline'"}

HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What is in the picture?</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #191919; background: #fff; margin: 0 auto; padding: 0 16px 32px;
       max-width: 1100px; }
h1 { font-size: 1.5em; line-height: 1.2; }
#drop { display: block; border: 2px dashed #8a8a8a; border-radius: 8px; padding: 18px; text-align: center; }
#drop.over { border-color: #0a58ca; background: #eef4ff; }
#drop:focus-within { outline: 3px solid #0a58ca; outline-offset: 2px; }
#error { color: #a80000; min-height: 1.5em; margin: .5em 0; overflow-wrap: anywhere; }
#seen { display: flex; flex-wrap: wrap; gap: 20px; align-items: flex-start; }
#seen[hidden] { display: none; }
#pictures { position: relative; flex: 3 1 420px; min-width: 0; }
#pictures img { width: 100%; height: auto; display: block; }
#mask { position: absolute; inset: 0; }
#words { flex: 1 1 260px; }
table { border-collapse: collapse; width: 100%; }
td { padding: 3px 6px 3px 0; border-bottom: 1px solid #e4e4e4; }
td:first-child span { display: inline-block; width: 1.1em; height: 1.1em; border: 1px solid #777;
                      vertical-align: -.2em; }
td:nth-child(n+3), th:nth-child(n+3) { text-align: right; font-variant-numeric: tabular-nums; }
th { font-weight: normal; font-size: 13px; color: #5f5f5f; text-align: left; }
#times, label[for=weight] { font-size: 13px; color: #5f5f5f; }
</style>
</head>
<body>
<h1>What is in the picture?</h1>
<label id="drop">Drop an image here, or choose one: <input type="file" id="file" accept="image/*"></label>
<p id="error" role="alert"></p>
<div id="seen" hidden>
  <div id="pictures"><img id="image" alt="the image"><img id="mask" alt="the classes of its pixels, in colours"></div>
  <div id="words">
    <label for="weight">Colours <input type="range" id="weight" min="0" max="100" value="50"></label>
    <table><thead><tr><th></th><th>class</th><th>of the pixels</th><th id="said"></th></tr></thead>
    <tbody id="classes"></tbody></table>
    <p id="times"></p>
  </div>
</div>
<script>
"use strict";
const at = id => document.getElementById(id);
let last = 0;

async function predict(file) {
  const mine = ++last;
  at("error").textContent = "";
  document.body.style.cursor = "progress";
  try {
    const answer = await fetch("predict?format=json&picture=true", {method: "POST", body: file,
      headers: {"Content-Type": file.type || "application/octet-stream"}});
    const said = await answer.json();
    if (mine !== last) return;
    if (!answer.ok) throw new Error(said.error);
    show(file, said);
  } catch (error) {
    if (mine === last) { at("seen").hidden = true; at("error").textContent = error.message; }
  } finally {
    if (mine === last) document.body.style.cursor = "";
  }
}

function show(file, said) {
  URL.revokeObjectURL(at("image").src);
  at("image").src = URL.createObjectURL(file);
  at("image").width = said.width;
  at("image").height = said.height;
  at("mask").src = "data:image/png;base64," + said.picture;
  const probability = {};
  (said.presence || []).forEach(each => probability[each.id] = each.probability);
  at("said").textContent = said.presence ? "presence" : "";
  at("classes").replaceChildren(...said.classes.map(each => {
    const row = document.createElement("tr");
    const texts = ["", each.name, percent(each.share), each.id in probability ? percent(probability[each.id]) : ""];
    texts.forEach(text => row.insertCell().textContent = text);
    const colour = row.cells[0].appendChild(document.createElement("span"));
    colour.style.background = `rgb(${each.color.join()})`;
    return row;
  }));
  const steps = Object.entries(said.milliseconds).map(([step, time]) => `${step} ${time.toFixed(1)} ms`);
  at("times").textContent = `${said.width} x ${said.height} pixels; ${steps.join(", ")}`;
  at("seen").hidden = false;
}

const percent = share => (100 * share).toFixed(1) + " %";
const weigh = () => at("mask").style.opacity = at("weight").value / 100;
at("weight").addEventListener("input", weigh);
weigh();
at("file").addEventListener("change", () => at("file").files.length && predict(at("file").files[0]));
addEventListener("dragover", event => { event.preventDefault(); at("drop").classList.add("over"); });
addEventListener("dragleave", () => at("drop").classList.remove("over"));
addEventListener("drop", event => {
  event.preventDefault();
  at("drop").classList.remove("over");
  if (event.dataTransfer.files.length) predict(event.dataTransfer.files[0]);
});
</script>
</body>
</html>
"""
