// Compiles the schemas that the arguments name in Ajv's strict mode: whatever it doesn't know is an error there.
const fs = require("node:fs");
const Ajv = require("ajv/dist/2020");
const addFormats = require("ajv-formats");

const ids = process.argv.slice(2).map((file) => {
  const ajv = new Ajv({ strict: true, allErrors: true });
  addFormats(ajv);
  const schema = JSON.parse(fs.readFileSync(file, "utf8"));
  ajv.compile(schema);
  return schema.$id;
});
process.stdout.write(JSON.stringify(ids));
