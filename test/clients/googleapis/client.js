// Makes calls with the client that Google publishes for Node.js, as an application would. Which ones it reads from standard
// input, a line each: {"method": "projects.locations.migrationJobs.get", "params": {"name": ...}}. A line for each answer:
// {"data": ...}, or what the application sees of a refusal: {"error": {...}}.
//
//   node client.js '{"rootUrl": "http://127.0.0.1:8432/", "token": "..."}'      (token: where the service wants one)
'use strict';

const readline = require('node:readline');
// What google.datamigration and google.auth are. All of the package, the clients of 300 APIs, takes seconds to load.
const {auth, datamigration} = require('googleapis/build/src/apis/datamigration');

function connect({rootUrl, token}) {
  const options = {version: 'v1', rootUrl};
  if (token !== undefined) {
    options.auth = new auth.OAuth2();
    options.auth.setCredentials({access_token: token});
  }
  return datamigration(options);
}

function seen(error) {
  if (error.response === undefined) throw error; // no answer at all: nothing that a test expects
  const said = error.response.data.error;
  return {code: error.code, httpStatus: error.response.status, message: error.message, status: said.status, details: said.details};
}

async function call(client, {method, params}) {
  const words = method.split('.');
  const verb = words.pop();
  const resource = words.reduce((at, word) => at[word], client);
  try {
    return {data: (await resource[verb](params)).data};
  } catch (error) {
    return {error: seen(error)};
  }
}

async function main() {
  const client = connect(JSON.parse(process.argv[2]));
  for await (const line of readline.createInterface({input: process.stdin})) {
    process.stdout.write(JSON.stringify(await call(client, JSON.parse(line))) + '\n');
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
