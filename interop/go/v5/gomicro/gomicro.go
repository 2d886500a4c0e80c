// Package gomicro gives the shared peer one set of names for what go-micro v5.30.0 calls differently from other
// generations. Nothing is added to go-micro here.
package gomicro

import (
	"context"
	stderrors "errors"
	"time"

	micro "go-micro.dev/v5"
	"go-micro.dev/v5/broker"
	"go-micro.dev/v5/broker/nats"
	"go-micro.dev/v5/broker/rabbitmq"
	"go-micro.dev/v5/client"
	"go-micro.dev/v5/codec/bytes"
	"go-micro.dev/v5/errors"
	"go-micro.dev/v5/metadata"
	"go-micro.dev/v5/registry"
	"go-micro.dev/v5/registry/consul"
	"go-micro.dev/v5/registry/etcd"
	"go-micro.dev/v5/server"
)

const Version = "v5.30.0"

type (
	Service      = micro.Service
	Option       = micro.Option
	Server       = server.Server
	ServerStream = server.Stream
	Client       = client.Client
	CallOption   = client.CallOption
	Request      = client.Request
	ClientStream = client.Stream
	Registry     = registry.Registry
	Record       = registry.Service
	RegisterOpt  = registry.RegisterOption
	Error        = errors.Error
	Frame        = bytes.Frame
	Broker       = broker.Broker
	Message      = broker.Message
	Event        = broker.Event
)

// NewService composes the mucp stack, which is the default, explicitly.
// The content type is the one generated clients call with.
func NewService(contentType string, options ...Option) Service {
	return micro.NewService(append([]Option{micro.Server(server.NewServer()), micro.Client(client.NewClient(client.ContentType(contentType)))}, options...)...)
}

// NewGrpcService is for v2, where gRPC is the default.
func NewGrpcService(...Option) (Service, error) {
	return nil, stderrors.New("gRPC is not the default of v5")
}

func Name(name string) Option                  { return micro.Name(name) }
func ServiceVersion(version string) Option     { return micro.Version(version) }
func Address(address string) Option            { return micro.Address(address) }
func Metadata(values map[string]string) Option { return micro.Metadata(values) }
func UseRegistry(r Registry) Option            { return micro.Registry(r) }
func UseBroker(b Broker) Option                { return micro.Broker(b) }
func AfterStart(run func() error) Option       { return micro.AfterStart(run) }
func MdnsRegistry() Registry                   { return registry.NewMDNSRegistry() }

// EtcdRegistry and ConsulRegistry are those of a server at address.
func EtcdRegistry(address string) Registry { return etcd.NewEtcdRegistry(registry.Addrs(address)) }
func ConsulRegistry(address string) Registry {
	return consul.NewConsulRegistry(registry.Addrs(address))
}
func WatchService(name string) registry.WatchOption { return registry.WatchService(name) }
func MemoryRegistry() Registry                      { return registry.NewMemoryRegistry() }
func RegisterHandler(s Server, h interface{}) error { return micro.RegisterHandler(s, h) }

func NewRequest(service, endpoint string, message interface{}, contentType string, stream bool) Request {
	options := []client.RequestOption{client.WithContentType(contentType)}
	if stream {
		options = append(options, client.StreamingRequest())
	}
	return client.NewRequest(service, endpoint, message, options...)
}

func CallAddress(address string) CallOption           { return client.WithAddress(address) }
func CallRetries(retries int) CallOption              { return client.WithRetries(retries) }
func CallTimeout(timeout time.Duration) CallOption    { return client.WithRequestTimeout(timeout) }
func AttemptTimeout(timeout time.Duration) CallOption { return client.WithConnectionTimeout(timeout) }
func FreshConnection() CallOption                     { return client.WithConnClose() }

func NewError(id, detail string, code int32) error { return errors.New(id, detail, code) }
func ParseError(text string) *Error                { return errors.Parse(text) }

func WithMetadata(ctx context.Context, values map[string]string) context.Context {
	return metadata.NewContext(ctx, values)
}

func MetadataOf(ctx context.Context) map[string]string {
	values, _ := metadata.FromContext(ctx)
	return values
}

// The brokers; the http one finds its subscribers in the registry.
func HttpBroker(r Registry) Broker     { return broker.NewHttpBroker(broker.Registry(r)) }
func NatsBroker(address string) Broker { return nats.NewNatsBroker(broker.Addrs(address)) }
func RabbitmqBroker(url string) Broker { return rabbitmq.NewBroker(broker.Addrs(url)) }

var errNoKafka = stderrors.New("go-micro v5 has no Kafka broker")

func KafkaBroker(string) (Broker, error)         { return nil, errNoKafka }
func CreateKafkaTopic(string, string, int) error { return errNoKafka }

// RegisterSubscriber subscribes through the server; no queue is every subscriber's own copy.
func RegisterSubscriber(topic string, s Server, handler interface{}, queue string) error {
	var options []server.SubscriberOption
	if queue != "" {
		options = append(options, server.SubscriberQueue(queue))
	}
	return micro.RegisterSubscriber(topic, s, handler, options...)
}

// Subscribe is the broker's own, below the server.
func Subscribe(b Broker, topic, queue string, handler func(Event) error) error {
	var options []broker.SubscribeOption
	if queue != "" {
		options = append(options, broker.Queue(queue))
	}
	_, err := b.Subscribe(topic, handler, options...)
	return err
}

// Publish is what generated code and users call: an event of the client, in its content type.
func Publish(ctx context.Context, topic string, c Client, message interface{}) error {
	return micro.NewEvent(topic, c).Publish(ctx, message)
}
