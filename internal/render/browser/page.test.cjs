"use strict";
// What a browser makes of the page, and a reader of JUnit of that form.
const { test, before, after } = require("node:test");
const assert = require("node:assert/strict");
const fs = require("node:fs");
const { chromium } = require("playwright-core");
const { parse } = require("junit2json");

let browser;
before(async () => {
  browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
});
after(() => browser.close());

// open opens a page and gathers what must not happen: errors, and requests of any kind.
async function open(file, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (m) => wrong.push("console: " + m.text()));
  page.on("pageerror", (e) => wrong.push("error: " + e.message));
  page.on("request", (r) => { if (!r.url().startsWith("file://") || !r.url().endsWith(".html")) wrong.push("request: " + r.url()); });
  await page.goto("file://" + file);
  return { page, wrong, close: () => context.close() };
}

const found = (page) => page.locator("#found").textContent();
const column = (page, n) => page.locator(`#table tbody tr > :nth-child(${n})`).allTextContents();

test("it says at the top how the run went, and why", async () => {
  const { page, wrong, close } = await open(process.env.PAGE);
  assert.match(await page.locator("h1").textContent(), /^Failed: 300 of 10,000 targets did not go well \(100 rejected, 200 offline\)\.$/);
  const causes = await page.locator(".causes li").allTextContents();
  assert.equal(causes.length, 2);
  assert.match(causes[0], /100\s+rejected/);
  assert.match(causes[1], /200\s+offline[^]*404103 DeviceNotOnline[^]*What to do/);
  const box = await page.locator(".causes li").last().boundingBox();
  assert.ok(box.y + box.height < 900, "the causes stand on the first screen");
  assert.equal(await page.locator(".chart").count(), 3);
  assert.equal(await page.locator(".waves li").count(), 2);
  assert.deepEqual(wrong, []);
  await close();
});

test("the table is searched, filtered, sorted and turned", async () => {
  const { page, wrong, close } = await open(process.env.PAGE);
  assert.equal(await found(page), "10,000 rows");
  await page.getByRole("checkbox", { name: "offline" }).check();
  assert.equal(await found(page), "200 of 10,000 rows");
  assert.deepEqual([...new Set(await column(page, 2))], ["offline"]);
  await page.getByRole("checkbox", { name: "rejected" }).check();
  assert.equal(await found(page), "300 of 10,000 rows");
  await page.getByRole("button", { name: "Next" }).click();
  assert.equal(await page.locator("#page").textContent(), "Page 2 of 3");
  await page.getByRole("searchbox").fill("door-000103");
  await page.waitForFunction(() => document.getElementById("found").textContent.startsWith("1 of"));
  assert.deepEqual(await column(page, 1), ["door-000103"]);
  assert.match((await column(page, 6))[0], /status 423 \{"reason":"someone stands in the door"\}/);
  await page.getByRole("searchbox").fill("");
  await page.waitForFunction(() => document.getElementById("found").textContent.startsWith("300 of"));
  const took = page.getByRole("button", { name: "Took" });
  await took.focus();
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("th[data-name=Took]").getAttribute("aria-sort"), "ascending");
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("th[data-name=Took]").getAttribute("aria-sort"), "descending");
  const times = (await column(page, 5)).map((t) => parseInt(t, 10));
  assert.deepEqual(times, [...times].sort((a, b) => b - a));
  assert.deepEqual(wrong, []);
  await close();
});

test("nothing of a device is obeyed", async () => {
  const { page, wrong, close } = await open(process.env.PAGE);
  await page.getByRole("searchbox").fill("onerror");
  await page.waitForFunction(() => document.getElementById("found").textContent.startsWith("1 of"));
  assert.deepEqual(await column(page, 1), [process.env.HOSTILE]);
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  assert.equal(await page.locator("img").count(), 0);
  assert.deepEqual(wrong, []);
  await close();
});

// overlaps returns texts that stand on each other, of those that are shown.
const overlaps = () => {
  const boxes = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    const parent = node.parentElement;
    if (!node.textContent.trim() || parent.closest("script,.skip,option,svg")) continue;
    if (!parent.checkVisibility({ contentVisibilityAuto: true })) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const r of range.getClientRects()) if (r.width > 1 && r.height > 1) boxes.push([r, node.textContent.trim().slice(0, 30)]);
  }
  boxes.sort(([a], [b]) => a.top - b.top);
  const bad = [];
  boxes.forEach(([a, x], i) => {
    for (let j = i + 1; j < boxes.length && boxes[j][0].top < a.bottom; j++) {
      const [b, y] = boxes[j];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 2 && high > 4) bad.push(x + " / " + y);
    }
  });
  return bad;
};

for (const width of [360, 1440]) {
  for (const colorScheme of ["light", "dark"]) {
    test(`no text overlaps at ${width} px, ${colorScheme}`, async () => {
      const { page, wrong, close } = await open(process.env.PAGE, { viewport: { width, height: 900 }, colorScheme });
      assert.deepEqual(await page.evaluate(overlaps), []);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), "the page is not wider than the screen");
      await page.screenshot({ path: `${process.env.SHOTS}/report-${width}-${colorScheme}.png`, clip: { x: 0, y: 0, width, height: 1800 }, fullPage: true });
      assert.deepEqual(wrong, []);
      await close();
    });
    test(`it can be read by everybody at ${width} px, ${colorScheme}`, async () => {
      const { page, close } = await open(process.env.PAGE, { viewport: { width, height: 900 }, colorScheme, bypassCSP: true });
      await page.addScriptTag({ path: require.resolve("axe-core") });
      const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      assert.deepEqual(result.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 120)).join(" | ")}`), []);
      await close();
    });
  }
}

test("a hundred thousand rows are all there", async () => {
  const { page, wrong, close } = await open(process.env.LARGE);
  assert.equal(await found(page), "100,000 rows");
  await page.getByRole("checkbox", { name: "rejected" }).check();
  assert.equal(await found(page), "1,000 of 100,000 rows");
  assert.equal(await page.locator("#table tbody tr").count(), 100);
  assert.deepEqual(wrong, []);
  await close();
});

test("above that it says which rows it has", async () => {
  const { page, close } = await open(process.env.HUGE);
  assert.match(await page.locator(".sample").textContent(), /^Of 150,000 rows the table has all 4,500 that did not go well, and one in 2 of the others\./);
  await page.getByRole("checkbox", { name: "offline" }).check();
  assert.match(await found(page), /^3,000 of 77,250 rows$/);
  await close();
});

test("a page without scripts says so and has the rest", async () => {
  const { page, close } = await open(process.env.PAGE, { javaScriptEnabled: false });
  assert.ok(await page.getByText("The table of devices needs JavaScript.").isVisible());
  assert.equal(await page.locator(".chart svg").first().isVisible(), true);
  await close();
});

test("it prints", async () => {
  const { page, close } = await open(process.env.PAGE);
  const pdf = await page.pdf();
  assert.equal(pdf.subarray(0, 5).toString(), "%PDF-");
  await page.emulateMedia({ media: "print" });
  assert.equal(await page.locator(".controls").isVisible(), false);
  await close();
});

test("a reader of JUnit counts what the report counts", async () => {
  const suites = await parse(fs.readFileSync(process.env.JUNIT, "utf8"));
  assert.equal(suites.tests, 1001);
  assert.equal(suites.failures, 11); // ten that said no, and the job
  assert.equal(suites.errors, 20);
  const [suite] = suites.testsuite;
  assert.equal(suite.testcase.length, 1001);
  assert.equal(suite.testcase.filter((c) => c.failure).length, 11);
  assert.equal(suite.testcase.filter((c) => c.error).length, 20);
  assert.ok(suite.testcase.some((c) => c.name === process.env.HOSTILE));
});
