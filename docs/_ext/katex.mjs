// Formulas to HTML, one a line: {"tex": …, "display": …} in, {"html": …} or {"error": …} out
import readline from 'readline';
import { createRequire } from 'module';
const katex = createRequire(process.argv[2] + '/')('katex');
for await (const line of readline.createInterface({ input: process.stdin })) {
  const { tex, display } = JSON.parse(line);
  let answer;
  try { answer = { html: katex.renderToString(tex, { displayMode: display, throwOnError: true, strict: 'ignore', output: 'htmlAndMathml' }) }; }
  catch (e) { answer = { error: e.message }; }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
