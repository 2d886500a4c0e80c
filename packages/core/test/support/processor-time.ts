/** Milliseconds of processor time this process has taken: what is computed takes as many on a busy machine. */
export function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
