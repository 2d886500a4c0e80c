// Package gomicro gives the shared peer one set of names for what go-micro v4.11.0 calls differently from other
// generations. Nothing is added to go-micro here.
package gomicro

import (
	"context"
	stderrors "errors"
	"time"

	"github.com/Shopify/sarama"
	"github.com/go-micro/plugins/v4/broker/kafka"
	"github.com/go-micro/plugins/v4/broker/nats"
	"github.com/go-micro/plugins/v4/broker/rabbitmq"
	"github.com/go-micro/plugins/v4/registry/consul"
	"github.com/go-micro/plugins/v4/registry/etcd"
	micro "go-micro.dev/v4"
	"go-micro.dev/v4/broker"
	"go-micro.dev/v4/client"
	"go-micro.dev/v4/codec/bytes"
	"go-micro.dev/v4/errors"
	"go-micro.dev/v4/metadata"
	"go-micro.dev/v4/registry"
	"go-micro.dev/v4/server"
)

const Version = "v4.11.0"

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
	return nil, stderrors.New("gRPC is not the default of v4")
}

func Name(name string) Option                  { return micro.Name(name) }
func ServiceVersion(version string) Option     { return micro.Version(version) }
func Address(address string) Option            { return micro.Address(address) }
func Metadata(values map[string]string) Option { return micro.Metadata(values) }
func UseRegistry(r Registry) Option            { return micro.Registry(r) }
func UseBroker(b Broker) Option                { return micro.Broker(b) }
func AfterStart(run func() error) Option       { return micro.AfterStart(run) }
func MdnsRegistry() Registry                   { return registry.NewRegistry() }

// EtcdRegistry and ConsulRegistry are those of a server at address.
func EtcdRegistry(address string) Registry          { return etcd.NewRegistry(registry.Addrs(address)) }
func ConsulRegistry(address string) Registry        { return consul.NewRegistry(registry.Addrs(address)) }
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

func CallAddress(address string) CallOption        { return client.WithAddress(address) }
func CallRetries(retries int) CallOption           { return client.WithRetries(retries) }
func CallTimeout(timeout time.Duration) CallOption { return client.WithRequestTimeout(timeout) }
func AttemptTimeout(timeout time.Duration) CallOption {
	return func(o *client.CallOptions) { o.ConnectionTimeout = timeout }
}
func FreshConnection() CallOption { return client.WithConnClose() }

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
func HttpBroker(r Registry) Broker               { return broker.NewBroker(broker.Registry(r)) }
func NatsBroker(address string) Broker           { return nats.NewBroker(broker.Addrs(address)) }
func RabbitmqBroker(url string) Broker           { return rabbitmq.NewBroker(broker.Addrs(url)) }
func KafkaBroker(address string) (Broker, error) { return kafka.NewBroker(broker.Addrs(address)), nil }

// CreateKafkaTopic makes a topic of several partitions, which a group of several members needs.
func CreateKafkaTopic(address, topic string, partitions int) error {
	config := sarama.NewConfig()
	config.Version = sarama.V1_0_0_0
	admin, err := sarama.NewClusterAdmin([]string{address}, config)
	if err != nil {
		return err
	}
	defer admin.Close()
	return admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: int32(partitions), ReplicationFactor: 1}, false)
}

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
