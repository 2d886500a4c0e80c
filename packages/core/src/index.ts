export type { Logger } from "./logger/logger.ts";
