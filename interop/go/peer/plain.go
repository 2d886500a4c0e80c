package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"time"

	"interop.test/peer/gomicro"
)

// The messages of plain JSON services, which are Go structs.
type (
	None         struct{}
	HelloRequest struct {
		Name string `json:"name"`
	}
	HelloResponse struct {
		Msg string `json:"msg"`
	}
	FailRequest struct {
		Code   int32  `json:"code"`
		Detail string `json:"detail"`
		ID     string `json:"id"`
		Plain  bool   `json:"plain"`
		Panic  bool   `json:"panic"`
	}
	SleepRequest struct {
		Key string `json:"key"`
		Ms  int32  `json:"ms"`
	}
	SleepReport struct {
		Runs      int32  `json:"runs"`
		Ends      int32  `json:"ends"`
		Ran       int32  `json:"ran"`
		Cancelled bool   `json:"cancelled"`
		Error     string `json:"error"`
		Left      int32  `json:"left"`
	}
	EchoMessage struct {
		Data []byte `json:"data"`
		Text string `json:"text"`
	}
	MetaResponse struct {
		Values map[string]string `json:"values"`
	}
	ForwardRequest struct {
		Service string `json:"service"`
		Address string `json:"address"`
	}
	CountRequest struct {
		To    int32 `json:"to"`
		Pause int32 `json:"pause"`
	}
	Number struct {
		N int32 `json:"n"`
	}
	HealthRequest struct {
		Service string `json:"service"`
	}
	HealthResponse struct {
		Status string `json:"status"`
	}
)

// Plain serves the same as the greeter with Go structs; its name is the first part of the endpoints.
type Plain struct{ client gomicro.Client }

func (p *Plain) Hello(ctx context.Context, in *HelloRequest, out *HelloResponse) error {
	out.Msg = "Hello " + in.Name
	return nil
}

func (p *Plain) Fail(ctx context.Context, in *FailRequest, out *HelloResponse) error {
	if in.Panic {
		panic(in.Detail)
	}
	if in.Plain {
		return errors.New(in.Detail)
	}
	return gomicro.NewError(in.ID, in.Detail, in.Code)
}

func (p *Plain) Sleep(ctx context.Context, in *SleepRequest, out *SleepReport) error {
	end := begin(ctx, in.Key)
	err := sleep(ctx, in.Ms)
	end(err)
	*out = reportOf(lookUp(in.Key))
	return err
}

func (p *Plain) Slept(ctx context.Context, in *SleepRequest, out *SleepReport) error {
	*out = reportOf(lookUp(in.Key))
	return nil
}

func reportOf(r run) SleepReport {
	return SleepReport{Runs: r.runs, Ends: r.ends, Ran: r.ran, Cancelled: r.cancelled, Error: r.err, Left: r.left}
}

func (p *Plain) Echo(ctx context.Context, in *EchoMessage, out *EchoMessage) error {
	*out = *in
	return nil
}

func (p *Plain) Meta(ctx context.Context, in *None, out *MetaResponse) error {
	out.Values = gomicro.MetadataOf(ctx)
	return nil
}

func (p *Plain) Nothing(ctx context.Context, in *None, out *None) error { return nil }

func (p *Plain) Forward(ctx context.Context, in *ForwardRequest, out *MetaResponse) error {
	var options []gomicro.CallOption
	if in.Address != "" {
		options = append(options, gomicro.CallAddress(in.Address))
	}
	request := gomicro.NewRequest(in.Service, "Plain.Meta", &None{}, "application/json", false)
	return p.client.Call(ctx, request, out, options...)
}

func (p *Plain) Chat(ctx context.Context, stream gomicro.ServerStream) error {
	end := begin(ctx, gomicro.MetadataOf(ctx)["Key"])
	for {
		var message EchoMessage
		err := stream.Recv(&message)
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
		if err := stream.Send(&message); err != nil {
			end(err)
			return err
		}
	}
}

func (p *Plain) Count(ctx context.Context, stream gomicro.ServerStream) error {
	var in CountRequest
	if err := stream.Recv(&in); err != nil {
		return err
	}
	for n := int32(1); n <= in.To; n++ {
		if err := stream.Send(&Number{N: n}); err != nil {
			return err
		}
		if in.Pause > 0 {
			time.Sleep(time.Duration(in.Pause) * time.Millisecond)
		}
	}
	return nil
}

// Burst sends as fast as it can, in raw frames: encoded items would overwrite each other in go-micro's one buffer.
func (p *Plain) Burst(ctx context.Context, stream gomicro.ServerStream) error {
	var in CountRequest
	if err := stream.Recv(&in); err != nil {
		return err
	}
	for n := int32(1); n <= in.To; n++ {
		data, err := json.Marshal(Number{N: n})
		if err != nil {
			return err
		}
		if err := stream.Send(&gomicro.Frame{Data: data}); err != nil {
			return err
		}
	}
	return nil
}
