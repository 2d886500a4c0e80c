package main

import (
	"context"
	"errors"
	"io"
	"time"

	"interop.test/peer/gomicro"
	"interop.test/peer/pb"
)

// greeter serves protobuf messages through the generated interface.
type greeter struct{ client gomicro.Client }

func (g *greeter) Hello(ctx context.Context, in *pb.HelloRequest, out *pb.HelloResponse) error {
	out.Msg = "Hello " + in.Name
	return nil
}

func (g *greeter) Fail(ctx context.Context, in *pb.FailRequest, out *pb.HelloResponse) error {
	if in.Plain {
		return errors.New(in.Detail)
	}
	return gomicro.NewError(in.Id, in.Detail, in.Code)
}

func (g *greeter) Sleep(ctx context.Context, in *pb.SleepRequest, out *pb.SleepReport) error {
	end := begin(ctx, in.Key)
	err := sleep(ctx, in.Ms)
	end(err)
	fill(out, lookUp(in.Key))
	return err
}

func (g *greeter) Slept(ctx context.Context, in *pb.SleepRequest, out *pb.SleepReport) error {
	fill(out, lookUp(in.Key))
	return nil
}

func fill(out *pb.SleepReport, r run) {
	out.Runs, out.Ends, out.Ran, out.Cancelled, out.Error, out.Left = r.runs, r.ends, r.ran, r.cancelled, r.err, r.left
}

func (g *greeter) Echo(ctx context.Context, in *pb.EchoMessage, out *pb.EchoMessage) error {
	out.Data, out.Text = in.Data, in.Text
	return nil
}

func (g *greeter) Meta(ctx context.Context, in *pb.Empty, out *pb.MetaResponse) error {
	out.Values = gomicro.MetadataOf(ctx)
	return nil
}

func (g *greeter) Nothing(ctx context.Context, in *pb.Empty, out *pb.Empty) error { return nil }

func (g *greeter) Forward(ctx context.Context, in *pb.ForwardRequest, out *pb.MetaResponse) error {
	var options []gomicro.CallOption
	if in.Address != "" {
		options = append(options, gomicro.CallAddress(in.Address))
	}
	answer := new(pb.MetaResponse)
	request := gomicro.NewRequest(in.Service, "Greeter.Meta", new(pb.Empty), "application/protobuf", false)
	if err := g.client.Call(ctx, request, answer, options...); err != nil {
		return err
	}
	out.Values = answer.Values
	return nil
}

func (g *greeter) Chat(ctx context.Context, stream pb.Greeter_ChatStream) error {
	end := begin(ctx, gomicro.MetadataOf(ctx)["Key"])
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			end(nil)
			return nil
		}
		if err != nil {
			end(err)
			return err
		}
		if message.Text == "fail" {
			err = gomicro.NewError("greeter", "asked to fail", 409)
			end(err)
			return err
		}
		if message.Text == "bye" {
			end(nil)
			return nil
		}
		if err := stream.Send(message); err != nil {
			end(err)
			return err
		}
	}
}

func (g *greeter) Count(ctx context.Context, in *pb.CountRequest, stream pb.Greeter_CountStream) error {
	for n := int32(1); n <= in.To; n++ {
		if err := stream.Send(&pb.Number{N: n}); err != nil {
			return err
		}
		if in.Pause > 0 {
			time.Sleep(time.Duration(in.Pause) * time.Millisecond)
		}
	}
	return nil
}
