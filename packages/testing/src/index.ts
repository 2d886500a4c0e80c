/** For authors of plugins: conformance suites for any test runner, a TCP proxy that misbehaves, and a clock that is moved. */
export { defineSuite, type Skips, type SuiteCase, type TestRunner } from "./runner.ts";
export { watchLeaks, type LeakWatch } from "./leaks.ts";
export { collectNow, Keepsakes, watchEntries, type EntryWatch } from "./kept.ts";
export {
  brokerConformance,
  type BrokerConformanceOptions,
  type BrokerFixture,
  type RestrictedBroker,
} from "./broker-conformance.ts";
export { registryConformance, type RegistryConformanceOptions, type RegistryFixture } from "./registry-conformance.ts";
export { transportConformance, type TransportFixture } from "./transport-conformance.ts";
export {
  codecConformance,
  type CodecConformanceOptions,
  type CodecFixture,
  type CodecSample,
} from "./codec-conformance.ts";
export { selectorConformance, type SelectorConformanceOptions, type SelectorFixture } from "./selector-conformance.ts";
export {
  clientConformance,
  type ClientConformanceOptions,
  type ClientFixture,
  type ClientUnderTestOptions,
  type ServedInstance,
} from "./client-conformance.ts";
export {
  serverConformance,
  type ServerConformanceOptions,
  type ServerFixture,
  type ServerUnderTestOptions,
} from "./server-conformance.ts";
export { faultProxy, type FaultProxy, type FaultProxyOptions } from "./fault-proxy.ts";
export { fakeClock, type FakeClock } from "./fake-clock.ts";
