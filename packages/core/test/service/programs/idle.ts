// A service by flags and variables alone.
import { createService } from "../../../src/service/service.ts";

const service = createService({ name: "idle", address: "127.0.0.1:0", spreadMs: 0 });
service.handle("Idle", { ping: () => ({}) });
await service.init();
console.log(`registry ${service.registry.name}`);
await service.start();
await service.stop();
