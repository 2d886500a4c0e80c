package main

import (
	"context"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"interop.test/peer/pb"
)

// typesHandler serves every kind of field, through the generated interface.
type typesHandler struct{}

func (typesHandler) Echo(ctx context.Context, in *pb.Everything, out *pb.Everything) error {
	proto.Merge(out, in)
	return nil
}

func (typesHandler) Describe(ctx context.Context, in *pb.Everything, out *pb.Description) error {
	text, err := protojson.Marshal(in)
	out.Text = string(text)
	return err
}

func (typesHandler) Nothing(ctx context.Context, in *pb.Void, out *pb.Void) error { return nil }

// typesCall sends a message given as proto3 JSON, which encoding/json cannot fill in, and tells what came back the same way.
func (s *scenario) typesCall() map[string]interface{} {
	request := new(pb.Everything)
	if err := protojson.Unmarshal([]byte(s.body), request); err != nil {
		return failure(err)
	}
	var response proto.Message = new(pb.Everything)
	if s.endpoint == "Types.Describe" {
		response = new(pb.Description)
	}
	ctx, cancel := s.context()
	defer cancel()
	if err := s.client.Call(ctx, s.request(request, false), response, s.options...); err != nil {
		return failure(err)
	}
	text, err := protojson.Marshal(response)
	if err != nil {
		return failure(err)
	}
	return map[string]interface{}{"ok": true, "response": json.RawMessage(text), "same": proto.Equal(request, response)}
}
