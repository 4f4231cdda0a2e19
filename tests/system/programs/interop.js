// `node interop.js PORT [PEM]`: Node's own server, which tells what it was sent.
const crypto = require("crypto");
const fs = require("fs");
const [port, pem] = process.argv.slice(2);

function tell(request, response) {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts);
    const hash = crypto.createHash("sha256").update(body).digest("hex").slice(0, 16);
    response.end(`${request.method} ${request.url} ${body.length} ${hash}`);
  });
}

const server = pem
  ? require("https").createServer({ key: fs.readFileSync(pem), cert: fs.readFileSync(pem) }, tell)
  : require("http").createServer(tell);
server.listen(Number(port), "127.0.0.1");
