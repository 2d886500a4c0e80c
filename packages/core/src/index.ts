/** go-micro for TypeScript: everything a user or a plugin author imports. Names by subject; conformance suites are in `./testing`. */

// The service
export { createService, ServiceExit, type MicroService, type RunOptions } from "./service/service.ts";
export { createFunction, type MicroFunction } from "./service/function.ts";
export type { RegisterCheck, ServiceOptions, ServiceSettings, TlsSettings } from "./service/options.ts";
export type { ServiceClientPiece } from "./service/client-facade.ts";
export type { ProbeOptions } from "./service/probes.ts";
export type { Hook } from "./service/hooks.ts";
export type { FlagDefinition, FlagType, FlagValues } from "./service/flags.ts";
export { formatDuration, parseDuration } from "./service/duration.ts";
export type { PluginKind } from "./service/aliases.ts";
export type {
  ClientPlugin,
  ClientPluginContext,
  LoggerPlugin,
  OtherPlugin,
  PluginContext,
  PluginDescriptor,
  BrokerPlugin,
  BrokerPluginContext,
  RegistryPlugin,
  SelectorPlugin,
  SelectorPluginContext,
  ServerPlugin,
  ServerPluginContext,
  TransportPlugin,
} from "./service/plugins.ts";

// Definitions
export type {
  DecodeLimits,
  HttpRoute,
  MessageType,
  MethodDefinition,
  MethodDefinitions,
  MethodKind,
  ServiceDefinition,
  Streamable,
} from "./definition.ts";
export {
  bidiStream,
  clientStream,
  defineService,
  empty,
  jsonMessage,
  serverStream,
  unary,
  type DefineServiceOptions,
  type GeneratedMessage,
  type MessageSource,
  type NoGenerated,
  type SchemaMethod,
  type SchemaMethodOptions,
  type SourceAnswer,
  type SourceInput,
  type SourceOutput,
  type Travels,
} from "./schema.ts";
export type { JsonAnswer, JsonForm, NotJson, SurvivesJson } from "./json-form.ts";
export {
  protoMessage,
  type ProtoInput,
  type ProtoMessageFunctions,
  type ProtoMessageOptions,
  type ProtoMethod,
} from "./proto.ts";
export type { InferInput, InferOutput, StandardSchema } from "./standard-schema.ts";

// Calls
export type {
  AttemptContext,
  Backoff,
  CallContext,
  CallOptions,
  CallWrapper,
  Client,
  ClientOptions,
  ClientStream,
  ClientWrapper,
  ProtocolClient,
  RetryPolicy,
  ServiceClient,
} from "./client/client.ts";
export { mucpClient } from "./client/mucp-client.ts";
export { exponentialBackoff, retryAlways, retryNever, retryNotRun, retryOnError } from "./client/retry.ts";
export { cacheWrapper, type CacheWrapperOptions } from "./client/cache.ts";

// Handlers
export type {
  HandleOptions,
  HandlerRegistration,
  HandlerWrapper,
  PlainHandler,
  Server,
  ServerOptions,
  ServerStats,
  StartOptions,
  ServiceHandlers,
} from "./server/server.ts";
export { mucpServer } from "./server/mucp-server.ts";
export { bidiHandler, clientStreamHandler, serverStreamHandler, type AnyHandler } from "./server/kinds.ts";
export {
  debugDefinition,
  debugHandlers,
  type DebugAccess,
  type DebugOptions,
  type DebugPermission,
} from "./server/debug.ts";
export { logRing, type LogQuery, type LogRecord, type LogRing, type LogRingOptions } from "./debug/log-ring.ts";
export { spanRing, type Span, type SpanRing, type SpanRingOptions, type SpanType } from "./debug/spans.ts";
export { processMeter, type ProcessMeter, type ProcessStats } from "./debug/process-stats.ts";
export { wrap, type Next, type Wrapper } from "./wrapper.ts";

// Events
export { defineTopic, type DefineTopicOptions, type TopicDefinition } from "./topic.ts";
export {
  createEvent,
  type EventPublisher,
  type EventPublishOptions,
  type PublishContext,
  type PublishWrapper,
  type TopicPublisher,
} from "./client/publish.ts";
export {
  brokerEvent,
  type EventHandler,
  type EventHandlersOf,
  type EventSubscribeOptions,
  type SubscriberRegistration,
  type SubscriberWrapper,
} from "./server/events.ts";
// For authors of clients and servers
export { eventPublisher, type EventPublisherOptions } from "./client/publisher.ts";
export { Subscribers, type SubscribersOptions } from "./server/subscribers.ts";

// Context, metadata, errors
export {
  contextKey,
  currentContext,
  detach,
  runInContext,
  Cancellation,
  Context,
  type ContextInit,
  type ContextKey,
} from "./context.ts";
export { canonicalName, Metadata, perMessageHeaders, type MetadataInit } from "./metadata.ts";
export {
  MicroError,
  type CallAttempt,
  type ErrorCode,
  type ErrorJson,
  type Issue,
  type MicroErrorOptions,
} from "./errors.ts";
export * as errors from "./errors.ts";

// Registry
export type {
  Endpoint,
  Node,
  RegisterOptions,
  Registry,
  RegistryCallOptions,
  RegistryEvent,
  Service,
  StringMap,
  Value,
  Watcher,
  WatchOptions,
} from "./registry/registry.ts";
export { memoryNetwork, memoryRegistry, type MemoryNetwork, type MemoryRegistryOptions } from "./registry/memory.ts";
export { multiRegistry, type MultiRegistryOptions } from "./registry/multi.ts";
export { mdnsRegistry } from "./registry/mdns/mdns-registry.ts";
export type { MdnsRegistryOptions } from "./registry/mdns/options.ts";
export {
  registryCache,
  type CacheFacts,
  type CacheGetOptions,
  type CacheSnapshot,
  type RegistryCache,
  type RegistryCacheOptions,
} from "./registry/cache.ts";
export type { CachedNode } from "./registry/node-table.ts";
export { registrar, type Registrar, type RegistrarOptions, type RegistrarState } from "./registry/registrar.ts";
export { copyService, decodeResult, decodeService, encodeResult, encodeService } from "./registry/record.ts";
export { checkRegistryCall, type RegistryOperation } from "./registry/call-options.ts";
export { registryWatcher, type RegistryWatcherOptions, type WatchSink } from "./registry/watch-stream.ts";
export { advertiseAddress, joinAddress, splitAddress } from "./registry/address.ts";
export {
  message,
  streamRequestValue,
  streamResponseValue,
  valueOf,
  valueOfJsonSchema,
  type MessageFields,
} from "./registry/values.ts";

// Selector
export type {
  Candidate,
  NodeFilter,
  PickOptions,
  Selection,
  SelectOptions,
  Selector,
  Strategy,
  StrategyName,
} from "./selector/selector.ts";
export { cachedSelector, type CachedSelectorOptions } from "./selector/cached-selector.ts";
export { WrongServiceError } from "./selector/wrong-service.ts";
export { filterAddress, filterEndpoint, filterLabel, filterVersion } from "./selector/filters.ts";
export {
  powerOfTwoChoices,
  randomChoice,
  roundRobin,
  strategyByName,
  type StrategyOptions,
} from "./selector/strategies.ts";

// Transport
export type {
  ClientExchange,
  ExchangeHandler,
  ExchangeMessage,
  ExchangeOptions,
  ExchangeRequest,
  Listener,
  ListenOptions,
  PlainReply,
  PlainRequest,
  OutgoingMessage,
  ServerExchange,
  ServerStream,
  Transport,
} from "./transport/transport.ts";
export { httpTransport, type HttpTransportOptions } from "./transport/http/http-transport.ts";
export { joinPem, type HttpTlsOptions } from "./net/tls.ts";
export { memoryTransport } from "./transport/memory.ts";

// Codecs
export { Frame, type Codec, type CodecTable, type Envelope, type EnvelopeFormat } from "./codec/codec.ts";
export {
  codecTable,
  decodeMessage,
  defaultCodecs,
  encodeMessage,
  frameType,
  oldProtocolCodecs,
  oldProtocolContentType,
} from "./codec/table.ts";
export { bytesCodec } from "./codec/bytes.ts";
export { grpcJsonCodec, grpcProtoCodec } from "./codec/grpc.ts";
export { jsonCodec, jsonCodecWith, type JsonCodecOptions } from "./codec/json.ts";
export { jsonrpcCodec } from "./codec/jsonrpc.ts";
export { protoCodec, protoCodecWith, type ProtoCodecOptions } from "./codec/proto.ts";
export { protorpcCodec } from "./codec/protorpc.ts";
export { textCodec } from "./codec/text.ts";

// Broker
export type {
  Broker,
  BrokerEvent,
  EventFate,
  BrokerHandler,
  BrokerMessage,
  OutgoingBrokerMessage,
  PublishOptions,
  SubscribeOptions,
  Subscriber,
  SubscriberStats,
} from "./broker/broker.ts";
export { httpBroker } from "./broker/http/http-broker.ts";
export type { HttpBrokerOptions } from "./broker/http/options.ts";
export {
  memoryBroker,
  memoryBrokerNetwork,
  type MemoryBrokerNetwork,
  type MemoryBrokerOptions,
} from "./broker/memory.ts";
// For authors of broker plugins
export {
  ConnectionGate,
  publishTimeout,
  publishWithin,
  type ConnectionGateOptions,
  type PublishWithinOptions,
} from "./broker/connection-gate.ts";
export { limitTimer, type LimitTimer } from "./stall.ts";
export { IdleRelease, type IdleReleaseOptions } from "./broker/idle-release.ts";
export {
  checkSubscription,
  Consumer,
  redeliveryBackoff,
  type ConsumerOptions,
  type Delivery,
} from "./broker/consumer.ts";
export { decodeEnvelope, encodeEnvelope, wireHeader } from "./broker/envelope.ts";
export { checkPublishOptions, type FurtherOptions } from "./broker/option-names.ts";
export { outgoingHeader } from "./broker/outgoing.ts";
export { RefusalLog } from "./broker/refusal-log.ts";
export { brokerLine, logConnectionLost } from "./broker/log-line.ts";
export { unlessInside } from "./work.ts";
export { Subscription, type SubscriptionOptions } from "./broker/subscription.ts";

// Logger, supervision, time
export type { LogFields, Logger, LogLevel } from "./logger/logger.ts";
export {
  consoleLogger,
  parseLogFormat,
  parseLogLevel,
  silentLogger,
  type ConsoleLoggerOptions,
  type LogFormat,
} from "./logger/console-logger.ts";
export type { Redact } from "./logger/record-text.ts";
export {
  jitteredBackoff,
  supervise,
  type BackoffOptions,
  type BackoffState,
  type SupervisedTask,
  type Supervisor,
  type SupervisorOptions,
  type SupervisorState,
} from "./supervisor.ts";
export {
  sleep,
  systemClock,
  withLimit,
  type Clock,
  type ClockTimer,
  type LimitOptions,
  type SleepOptions,
} from "./clock.ts";
// For authors of plugins: options that people mistype are errors
export {
  checkLimit,
  checkNumber,
  checkOptionNames,
  checkPause,
  timerDelay,
  unknownOption,
  type NumberBounds,
  type OptionNames,
} from "./option-check.ts";
export { checkValue, optionKinds, type OptionKind } from "./option-kinds.ts";
