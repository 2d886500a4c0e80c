//go:build grpcbench

// The benchmark over gRPC, for the generation whose modules have it: plain grpc-go, and go-micro with its gRPC client
// and server. Messages are protobuf, as users of either have them.
package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	micro "go-micro.dev/v5"
	"go-micro.dev/v5/client"
	microclient "go-micro.dev/v5/client/grpc"
	"go-micro.dev/v5/registry"
	"go-micro.dev/v5/server"
	microserver "go-micro.dev/v5/server/grpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"interop.test/peer/pb"
)

func init() {
	commands["grpc-server"] = runGRPCServer
	commands["grpc-client"] = runGRPCClient
}

// greeterServer is the interface protoc-gen-go-grpc would make of the three methods.
type greeterServer interface {
	Hello(context.Context, *pb.HelloRequest) (*pb.HelloResponse, error)
	Echo(context.Context, *pb.EchoMessage) (*pb.EchoMessage, error)
	Count(*pb.CountRequest, grpc.ServerStream) error
}

type plainGreeter struct{}

func (plainGreeter) Hello(_ context.Context, in *pb.HelloRequest) (*pb.HelloResponse, error) {
	return &pb.HelloResponse{Msg: "Hello " + in.Name}, nil
}

func (plainGreeter) Echo(_ context.Context, in *pb.EchoMessage) (*pb.EchoMessage, error) {
	return in, nil
}

func (plainGreeter) Count(in *pb.CountRequest, stream grpc.ServerStream) error {
	for i := int32(1); i <= in.To; i++ {
		if err := stream.SendMsg(&pb.Number{N: i}); err != nil {
			return err
		}
	}
	return nil
}

var greeterDesc = grpc.ServiceDesc{
	ServiceName: "greeter.Greeter",
	HandlerType: (*greeterServer)(nil),
	Methods: []grpc.MethodDesc{
		{MethodName: "Hello", Handler: func(srv interface{}, ctx context.Context, decode func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
			in := new(pb.HelloRequest)
			if err := decode(in); err != nil {
				return nil, err
			}
			return srv.(greeterServer).Hello(ctx, in)
		}},
		{MethodName: "Echo", Handler: func(srv interface{}, ctx context.Context, decode func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
			in := new(pb.EchoMessage)
			if err := decode(in); err != nil {
				return nil, err
			}
			return srv.(greeterServer).Echo(ctx, in)
		}},
	},
	Streams: []grpc.StreamDesc{{StreamName: "Count", ServerStreams: true, Handler: func(srv interface{}, stream grpc.ServerStream) error {
		in := new(pb.CountRequest)
		if err := stream.RecvMsg(in); err != nil {
			return err
		}
		return srv.(greeterServer).Count(in, stream)
	}}},
}

// microGreeter is the same for go-micro, which takes its name from the type it is part of below.
type microGreeter struct{}

func (microGreeter) Hello(_ context.Context, in *pb.HelloRequest, out *pb.HelloResponse) error {
	out.Msg = "Hello " + in.Name
	return nil
}

func (microGreeter) Echo(_ context.Context, in *pb.EchoMessage, out *pb.EchoMessage) error {
	out.Text = in.Text
	return nil
}

func (microGreeter) Count(_ context.Context, stream server.Stream) error {
	in := new(pb.CountRequest)
	if err := stream.Recv(in); err != nil {
		return err
	}
	for i := int32(1); i <= in.To; i++ {
		if err := stream.Send(&pb.Number{N: i}); err != nil {
			return err
		}
	}
	return nil
}

func runGRPCServer(arguments []string) error {
	flags := newFlags("grpc-server")
	stack := flags.String("stack", "grpc", "grpc (grpc-go alone) or micro (go-micro over it)")
	address := flags.String("address", "127.0.0.1:0", "address to listen on")
	limit := flags.Duration("limit", 10*time.Minute, "end after this time")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	watchdog(*limit)
	if *stack == "grpc" {
		listener, err := net.Listen("tcp", *address)
		if err != nil {
			return err
		}
		plain := grpc.NewServer()
		plain.RegisterService(&greeterDesc, plainGreeter{})
		report(map[string]interface{}{"ready": true, "address": listener.Addr().String(), "grpc": grpc.Version})
		return plain.Serve(listener)
	}
	var service micro.Service
	service = micro.NewService(
		micro.Server(microserver.NewServer()),
		micro.Client(microclient.NewClient()),
		micro.Name("greeter"),
		micro.Address(*address),
		micro.Registry(registry.NewMemoryRegistry()),
		micro.AfterStart(func() error {
			report(map[string]interface{}{"ready": true, "address": service.Server().Options().Address, "grpc": grpc.Version})
			return nil
		}),
	)
	service.Init()
	type Greeter struct{ microGreeter }
	if err := micro.RegisterHandler(service.Server(), &Greeter{}); err != nil {
		return err
	}
	return service.Run()
}

func runGRPCClient(arguments []string) error {
	flags := newFlags("grpc-client")
	stack := flags.String("stack", "grpc", "grpc (grpc-go alone) or micro (go-micro over it)")
	address := flags.String("address", "", "address of the server")
	load := loadFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	load.watchdog()
	scenarios := plainScenarios
	if *stack == "micro" {
		scenarios = microScenarios
	}
	all, err := scenarios(*address)
	if err != nil {
		return err
	}
	load.run(all[*load.scenario])
	return nil
}

const streamItems = 1000

func checked(err error, right bool) error {
	if err == nil && !right {
		return fmt.Errorf("a wrong answer")
	}
	return err
}

func plainScenarios(address string) (map[string]func() error, error) {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	kibibyte := strings.Repeat("x", 1024)
	// The deadline every caller of a service sets, and ours has.
	within := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), 5*time.Second)
	}
	return map[string]func() error{
		"hello": func() error {
			ctx, cancel := within()
			defer cancel()
			out := new(pb.HelloResponse)
			err := connection.Invoke(ctx, "/greeter.Greeter/Hello", &pb.HelloRequest{Name: "John"}, out)
			return checked(err, out.Msg == "Hello John")
		},
		"echo": func() error {
			ctx, cancel := within()
			defer cancel()
			out := new(pb.EchoMessage)
			err := connection.Invoke(ctx, "/greeter.Greeter/Echo", &pb.EchoMessage{Text: kibibyte}, out)
			return checked(err, len(out.Text) == len(kibibyte))
		},
		"count": func() error {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			stream, err := connection.NewStream(ctx, &greeterDesc.Streams[0], "/greeter.Greeter/Count")
			if err != nil {
				return err
			}
			if err := stream.SendMsg(&pb.CountRequest{To: streamItems}); err != nil {
				return err
			}
			if err := stream.CloseSend(); err != nil {
				return err
			}
			return receiveAll(stream.RecvMsg)
		},
	}, nil
}

func microScenarios(address string) (map[string]func() error, error) {
	service := micro.NewService(micro.Name("bench-client"), micro.Client(microclient.NewClient()), micro.Registry(registry.NewMemoryRegistry()))
	service.Init()
	caller := service.Client()
	kibibyte := strings.Repeat("x", 1024)
	to := client.WithAddress(address)
	return map[string]func() error{
		"hello": func() error {
			out := new(pb.HelloResponse)
			err := caller.Call(context.Background(), caller.NewRequest("greeter", "Greeter.Hello", &pb.HelloRequest{Name: "John"}), out, to)
			return checked(err, out.Msg == "Hello John")
		},
		"echo": func() error {
			out := new(pb.EchoMessage)
			err := caller.Call(context.Background(), caller.NewRequest("greeter", "Greeter.Echo", &pb.EchoMessage{Text: kibibyte}), out, to)
			return checked(err, len(out.Text) == len(kibibyte))
		},
		"count": func() error {
			stream, err := caller.Stream(context.Background(), caller.NewRequest("greeter", "Greeter.Count", &pb.CountRequest{}, client.StreamingRequest()), to)
			if err != nil {
				return err
			}
			defer stream.Close()
			if err := stream.Send(&pb.CountRequest{To: streamItems}); err != nil {
				return err
			}
			return receiveAll(stream.Recv)
		},
	}, nil
}

func receiveAll(receive func(interface{}) error) error {
	for i := int32(1); i <= streamItems; i++ {
		number := new(pb.Number)
		if err := receive(number); err != nil {
			return err
		}
		if number.N != i {
			return fmt.Errorf("item %d instead of %d", number.N, i)
		}
	}
	return nil
}
