// Package gomicro gives the shared peer one set of names for what go-micro v5.30.0 calls differently from other
// generations. Nothing is added to go-micro here.
package gomicro

import (
	"context"
	"time"

	micro "go-micro.dev/v5"
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
)

// NewService composes the mucp stack, which is the default, explicitly.
// The content type is the one generated clients call with.
func NewService(contentType string, options ...Option) Service {
	return micro.NewService(append([]Option{micro.Server(server.NewServer()), micro.Client(client.NewClient(client.ContentType(contentType)))}, options...)...)
}

func Name(name string) Option                  { return micro.Name(name) }
func ServiceVersion(version string) Option     { return micro.Version(version) }
func Address(address string) Option            { return micro.Address(address) }
func Metadata(values map[string]string) Option { return micro.Metadata(values) }
func UseRegistry(r Registry) Option            { return micro.Registry(r) }
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
