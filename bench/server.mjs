// node bench/server.mjs TARGET: serves until its standard input closes; prints the address as JSON.
const { serve } = await import(`./targets/${process.argv[2]}.mjs`);
const { address } = await serve();
process.stdout.write(`${JSON.stringify({ address })}\n`);
process.stdin.resume().on("end", () => {
  process.stdout.write(
    `${JSON.stringify({ cpuMs: process.cpuUsage().user / 1000 + process.cpuUsage().system / 1000 })}\n`,
    () => process.exit(0),
  );
});
