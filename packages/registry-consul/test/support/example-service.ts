/** The service of the story: chosen by name, address and registry from the environment. */
import { createService } from "@micro/core";
import { plugins } from "@micro/registry-consul";

const service = createService({ name: "example.service", version: "latest", plugins });
await service.init();
service.handle("Example", { call: ({ name }: { name: string }) => ({ msg: `Hello ${name}` }) });
try {
  await service.run();
} catch (error) {
  service.logger.error(String(error));
  process.exitCode = 1;
}
