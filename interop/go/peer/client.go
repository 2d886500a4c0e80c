package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"interop.test/peer/gomicro"
	"interop.test/peer/pb"
)

var contentTypes = map[string]string{
	"json":      "application/json",
	"proto":     "application/protobuf",
	"jsonproto": "application/json",
}

// types gives the request and response of a method: structs for `json`, generated messages for the other encodings.
var types = map[string][2][2]interface{}{
	"Hello":   {{HelloRequest{}, HelloResponse{}}, {pb.HelloRequest{}, pb.HelloResponse{}}},
	"Fail":    {{FailRequest{}, HelloResponse{}}, {pb.FailRequest{}, pb.HelloResponse{}}},
	"Sleep":   {{SleepRequest{}, SleepReport{}}, {pb.SleepRequest{}, pb.SleepReport{}}},
	"Slept":   {{SleepRequest{}, SleepReport{}}, {pb.SleepRequest{}, pb.SleepReport{}}},
	"Echo":    {{EchoMessage{}, EchoMessage{}}, {pb.EchoMessage{}, pb.EchoMessage{}}},
	"Meta":    {{None{}, MetaResponse{}}, {pb.Empty{}, pb.MetaResponse{}}},
	"Nothing": {{None{}, None{}}, {pb.Empty{}, pb.Empty{}}},
	"Forward": {{ForwardRequest{}, MetaResponse{}}, {pb.ForwardRequest{}, pb.MetaResponse{}}},
	"Chat":    {{EchoMessage{}, EchoMessage{}}, {pb.EchoMessage{}, pb.EchoMessage{}}},
	"Health":  {{HealthRequest{}, HealthResponse{}}, {pb.Empty{}, pb.Empty{}}},
	"Count":   {{CountRequest{}, Number{}}, {pb.CountRequest{}, pb.Number{}}},
}

type scenario struct {
	name, service, endpoint, encoding, body string
	address                                 string
	metadata                                pairs
	deadline, cancel                        time.Duration
	n, fill, parallel                       int
	options                                 []gomicro.CallOption
	client                                  gomicro.Client
}

func runClient(arguments []string) error {
	flags := newFlags("client")
	s := &scenario{metadata: pairs{}}
	flags.StringVar(&s.name, "scenario", "call", "call, types, sequential, concurrent, chat or count")
	flags.StringVar(&s.service, "service", "greeter", "service name")
	flags.StringVar(&s.address, "address", "", "node address instead of a look-up")
	flags.StringVar(&s.endpoint, "endpoint", "Plain.Hello", "endpoint")
	flags.StringVar(&s.encoding, "encoding", "json", "json (structs), proto, or jsonproto (generated messages as JSON)")
	flags.StringVar(&s.body, "body", "{}", "request as JSON")
	flags.Var(s.metadata, "metadata", "key=value, repeatable")
	flags.DurationVar(&s.deadline, "deadline", 0, "deadline of the context")
	flags.DurationVar(&s.cancel, "cancel", 0, "cancel the context after this time")
	flags.IntVar(&s.n, "n", 1, "number of calls or messages")
	flags.IntVar(&s.fill, "fill", 0, "bytes to put into the request's data")
	flags.IntVar(&s.parallel, "parallel", 1, "callers at once")
	timeout := flags.Duration("timeout", 0, "request timeout")
	attempt := flags.Duration("attempt", 0, "timeout of one attempt, where there is one")
	retries := flags.Int("retries", -1, "extra attempts")
	linger := flags.Duration("linger", 0, "stay alive after the result, so that connections are closed by go-micro or not at all")
	fresh := flags.Bool("fresh", false, "a connection per call, where there is the option")
	await := flags.Duration("await", 0, "wait until the client's own selector knows the service")
	limit := flags.Duration("limit", 60*time.Second, "end after this time")
	open := registryFlag(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	watchdog(*limit)

	registry, err := open()
	if err != nil {
		return err
	}
	service := gomicro.NewService(contentTypes[s.encoding], gomicro.Name("interop-client"), gomicro.UseRegistry(registry))
	service.Init()
	s.client = service.Client()
	if s.address != "" {
		s.options = append(s.options, gomicro.CallAddress(s.address))
	}
	if *timeout > 0 {
		s.options = append(s.options, gomicro.CallTimeout(*timeout))
	}
	if *attempt > 0 {
		s.options = append(s.options, gomicro.AttemptTimeout(*attempt))
	}
	if *retries >= 0 {
		s.options = append(s.options, gomicro.CallRetries(*retries))
	}
	if *fresh {
		s.options = append(s.options, gomicro.FreshConnection())
	}
	scenarios := map[string]func() map[string]interface{}{
		"call":       s.call,
		"types":      s.typesCall,
		"sequential": s.sequential,
		"concurrent": s.concurrent,
		"chat":       s.chat,
		"count":      s.count,
	}
	run := scenarios[s.name]
	if run == nil {
		return errors.New("no such scenario: " + s.name)
	}
	awaitService(s.client, s.service, *await)
	started := time.Now()
	result := run()
	result["ms"] = time.Since(started).Milliseconds()
	report(result)
	time.Sleep(*linger)
	return nil
}

// awaitService looks the service up until it is found: go-micro collects answers for 100 ms and takes silence for
// absence, which on a busy machine it is not always.
func awaitService(client gomicro.Client, service string, limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if _, err := client.Options().Selector.Select(service); err == nil {
			return
		}
	}
}

// messages makes a request and a response of the endpoint's types.
func (s *scenario) messages() (request, response interface{}) {
	method := s.endpoint[strings.LastIndex(s.endpoint, ".")+1:]
	both, known := types[method]
	if !known {
		both = types["Hello"]
	}
	pair := both[0]
	if s.encoding != "json" {
		pair = both[1]
	}
	return reflect.New(reflect.TypeOf(pair[0])).Interface(), reflect.New(reflect.TypeOf(pair[1])).Interface()
}

func (s *scenario) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	if len(s.metadata) > 0 {
		ctx = gomicro.WithMetadata(ctx, s.metadata)
	}
	if s.deadline > 0 {
		ctx, cancel = context.WithTimeout(ctx, s.deadline)
	}
	if s.cancel > 0 {
		time.AfterFunc(s.cancel, cancel)
	}
	return ctx, cancel
}

func (s *scenario) request(message interface{}, stream bool) gomicro.Request {
	return gomicro.NewRequest(s.service, s.endpoint, message, contentTypes[s.encoding], stream)
}

func failure(err error) map[string]interface{} {
	parsed := gomicro.ParseError(err.Error())
	return map[string]interface{}{"ok": false, "error": map[string]interface{}{
		"id": parsed.Id, "code": parsed.Code, "detail": parsed.Detail, "status": parsed.Status, "text": err.Error(),
	}}
}

func (s *scenario) call() map[string]interface{} {
	request, response := s.messages()
	if err := json.Unmarshal([]byte(s.body), request); err != nil {
		return failure(err)
	}
	data := filled(s.fill)
	if s.fill > 0 {
		reflect.ValueOf(request).Elem().FieldByName("Data").SetBytes(data)
	}
	ctx, cancel := s.context()
	defer cancel()
	if err := s.client.Call(ctx, s.request(request, false), response, s.options...); err != nil {
		return failure(err)
	}
	if s.fill > 0 {
		answer := reflect.ValueOf(response).Elem().FieldByName("Data").Bytes()
		return map[string]interface{}{"ok": true, "size": len(answer), "same": bytes.Equal(answer, data)}
	}
	return map[string]interface{}{"ok": true, "response": response}
}

// filled gives bytes that the other side can make as well.
func filled(size int) []byte { return bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size] }

// hello makes one numbered call and says whether the right answer came.
func (s *scenario) hello(number int) error {
	request, response := s.messages()
	name := fmt.Sprint("n", number)
	reflect.ValueOf(request).Elem().FieldByName("Name").SetString(name)
	ctx, cancel := s.context()
	defer cancel()
	if err := s.client.Call(ctx, s.request(request, false), response, s.options...); err != nil {
		return err
	}
	if answer := reflect.ValueOf(response).Elem().FieldByName("Msg").String(); answer != "Hello "+name {
		return fmt.Errorf("answer of another call: %q to %q", answer, name)
	}
	return nil
}

func (s *scenario) sequential() map[string]interface{} {
	s.parallel = 1
	return s.concurrent()
}

func (s *scenario) concurrent() map[string]interface{} {
	var group sync.WaitGroup
	var lock sync.Mutex
	failed, first := 0, ""
	for caller := 0; caller < s.parallel; caller++ {
		group.Add(1)
		go func(caller int) {
			defer group.Done()
			for i := 0; i < s.n; i++ {
				if err := s.hello(caller*s.n + i); err != nil {
					lock.Lock()
					failed++
					if first == "" {
						first = err.Error()
					}
					lock.Unlock()
				}
			}
		}(caller)
	}
	group.Wait()
	return map[string]interface{}{"ok": failed == 0, "calls": s.n * s.parallel, "failed": failed, "first": first}
}

// chatStream is what chats need of the plain and of the generated stream.
type chatStream interface {
	send(text string) error
	receive() (string, error)
	close() error
}

type plainChat struct{ stream gomicro.ClientStream }

func (c plainChat) send(text string) error { return c.stream.Send(&EchoMessage{Text: text}) }
func (c plainChat) receive() (string, error) {
	var message EchoMessage
	err := c.stream.Recv(&message)
	return message.Text, err
}
func (c plainChat) close() error { return c.stream.Close() }

type generatedChat struct{ stream pb.Greeter_ChatService }

func (c generatedChat) send(text string) error { return c.stream.Send(&pb.EchoMessage{Text: text}) }
func (c generatedChat) receive() (string, error) {
	message, err := c.stream.Recv()
	if err != nil {
		return "", err
	}
	return message.Text, nil
}
func (c generatedChat) close() error { return c.stream.Close() }

func (s *scenario) openChat(ctx context.Context) (chatStream, error) {
	if s.encoding == "proto" {
		stream, err := pb.NewGreeterService(s.service, s.client).Chat(ctx, s.options...)
		return generatedChat{stream}, err
	}
	stream, err := s.client.Stream(ctx, s.request(&None{}, true), s.options...)
	return plainChat{stream}, err
}

// chat sends messages in turn. The body picks the end: "close" (default) closes after n of them, "wait" closes and
// waits for more, "fail" asks for an error, "bye" asks the handler to finish, "cut" drops the connection.
func (s *scenario) chat() map[string]interface{} {
	ctx, cancel := s.context()
	defer cancel()
	stream, err := s.openChat(ctx)
	if err != nil {
		return failure(err)
	}
	for i := 0; i < s.n; i++ {
		text := fmt.Sprint("message ", i, " ü")
		if err := stream.send(text); err != nil {
			return failure(err)
		}
		answer, err := stream.receive()
		if err != nil {
			return failure(fmt.Errorf("message %d: %w", i, err))
		}
		if answer != text {
			return failure(fmt.Errorf("message %d came back as %q", i, answer))
		}
	}
	switch s.body {
	case "fail", "bye":
		if err := stream.send(s.body); err != nil {
			return failure(err)
		}
		_, err := stream.receive()
		if err == io.EOF {
			return map[string]interface{}{"ok": true, "received": s.n, "end": "EOF"}
		}
		if err != nil {
			return failure(err)
		}
		return failure(errors.New("the stream went on"))
	case "cut":
		report(map[string]interface{}{"ok": true, "received": s.n, "end": "cut"})
		os.Exit(0)
	default:
		if err := stream.close(); err != nil {
			return failure(err)
		}
	}
	return map[string]interface{}{"ok": true, "received": s.n, "end": "close"}
}

// count reads a server stream to its end and checks the order.
func (s *scenario) count() map[string]interface{} {
	ctx, cancel := s.context()
	defer cancel()
	var next func() (int32, error)
	if s.encoding == "proto" {
		var in pb.CountRequest
		if err := json.Unmarshal([]byte(s.body), &in); err != nil {
			return failure(err)
		}
		stream, err := pb.NewGreeterService(s.service, s.client).Count(ctx, &in, s.options...)
		if err != nil {
			return failure(err)
		}
		defer stream.Close()
		next = func() (int32, error) {
			number, err := stream.Recv()
			if err != nil {
				return 0, err
			}
			return number.N, nil
		}
	} else {
		stream, err := s.client.Stream(ctx, s.request(&None{}, true), s.options...)
		if err != nil {
			return failure(err)
		}
		defer stream.Close()
		var in CountRequest
		if err := json.Unmarshal([]byte(s.body), &in); err != nil {
			return failure(err)
		}
		if err := stream.Send(&in); err != nil {
			return failure(err)
		}
		next = func() (int32, error) {
			var number Number
			err := stream.Recv(&number)
			return number.N, err
		}
	}
	for received := int32(0); ; received++ {
		n, err := next()
		if err == io.EOF {
			return map[string]interface{}{"ok": true, "received": received}
		}
		if err != nil {
			result := failure(err)
			result["received"] = received
			return result
		}
		if n != received+1 {
			result := failure(fmt.Errorf("item %d came as number %d", n, received+1))
			result["received"] = received
			return result
		}
	}
}
