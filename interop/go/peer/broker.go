package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"strings"
	"time"

	"interop.test/peer/gomicro"
	"interop.test/peer/pb"
)

// brokerFlag adds -broker, e.g. nats@127.0.0.1:4222, and gives what makes it once the flags are parsed.
func brokerFlag(flags *flag.FlagSet) func(gomicro.Registry) (gomicro.Broker, error) {
	text := flags.String("broker", "http", "http, nats@host:port, kafka@host:port or rabbitmq@amqp://...")
	return func(registry gomicro.Registry) (gomicro.Broker, error) {
		kind, address, _ := strings.Cut(*text, "@")
		switch kind {
		case "http":
			return gomicro.HttpBroker(registry), nil
		case "nats":
			return gomicro.NatsBroker(address), nil
		case "rabbitmq":
			return gomicro.RabbitmqBroker(address), nil
		case "kafka":
			return gomicro.KafkaBroker(address)
		}
		return nil, errors.New("no broker is called " + kind)
	}
}

func newService(grpc bool, contentType string, options ...gomicro.Option) (gomicro.Service, error) {
	if grpc {
		return gomicro.NewGrpcService(options...)
	}
	return gomicro.NewService(contentType, options...), nil
}

// subscribers of the encodings a subscriber may ask for.
// In `frame` the server hands the body over as it came; `broker` is the broker's own subscription, without a server.
var subscribers = map[string]interface{}{
	"json": func(ctx context.Context, in *EchoMessage) error {
		return received(gomicro.MetadataOf(ctx), in.Text, in.Data)
	},
	"proto": func(ctx context.Context, in *pb.EchoMessage) error {
		return received(gomicro.MetadataOf(ctx), in.Text, in.Data)
	},
	"frame": func(ctx context.Context, in *gomicro.Frame) error {
		return received(gomicro.MetadataOf(ctx), "", in.Data)
	},
}

// largestShown is the number of bytes above which only length and hash are told.
const largestShown = 4096

func received(header map[string]string, text string, data []byte) error {
	line := map[string]interface{}{"event": true, "text": text, "header": header, "size": len(data)}
	if len(data) > largestShown {
		sum := sha256.Sum256(data)
		line["sha256"] = hex.EncodeToString(sum[:])
	} else {
		line["data"] = data
	}
	report(line)
	if text == "fail" {
		return errors.New("asked to fail")
	}
	return nil
}

// runSubscribe prints every event of one topic until it is killed.
func runSubscribe(arguments []string) error {
	flags := newFlags("subscribe")
	name := flags.String("name", "interop-subscriber", "service name")
	topic := flags.String("topic", "interop", "topic")
	queue := flags.String("queue", "", "queue; none is a subscriber of its own")
	encoding := flags.String("encoding", "json", "json (a struct), proto, frame (the body as it came), or broker (no server)")
	grpc := flags.Bool("grpc", false, "with the gRPC client and server, the default of v2")
	limit := flags.Duration("limit", 2*time.Minute, "end after this time")
	open := registryFlag(flags)
	connect := brokerFlag(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	watchdog(*limit)
	registry, err := open()
	if err != nil {
		return err
	}
	broker, err := connect(registry)
	if err != nil {
		return err
	}
	ready := func() error {
		report(map[string]interface{}{"ready": true, "address": broker.Address()})
		return nil
	}
	if *encoding == "broker" {
		if err := broker.Init(); err != nil {
			return err
		}
		if err := broker.Connect(); err != nil {
			return err
		}
		err := gomicro.Subscribe(broker, *topic, *queue, func(event gomicro.Event) error {
			return received(event.Message().Header, event.Topic(), event.Message().Body)
		})
		if err != nil {
			return err
		}
		ready()
		select {}
	}
	handler := subscribers[*encoding]
	if handler == nil {
		return errors.New("no such encoding: " + *encoding)
	}
	service, err := newService(
		*grpc,
		"application/json",
		gomicro.Name(*name),
		gomicro.UseBroker(broker),
		gomicro.UseRegistry(registry),
		gomicro.Address("127.0.0.1:0"),
		gomicro.AfterStart(ready),
	)
	if err != nil {
		return err
	}
	service.Init()
	if err := gomicro.RegisterSubscriber(*topic, service.Server(), handler, *queue); err != nil {
		return err
	}
	return service.Run()
}

// publication is one line of input: what to publish, and how.
type publication struct {
	Topic string `json:"topic"`
	// json (a struct), proto, jsonproto (a generated message as JSON), grpcjson (one as application/grpc+json), frame, or broker (the broker's own publish).
	Encoding string            `json:"encoding"`
	Text     string            `json:"text"`
	Data     []byte            `json:"data"`
	Fill     int               `json:"fill"`
	Header   map[string]string `json:"header"`
	// Wait until this many nodes of the http broker are there for the topic.
	Nodes int `json:"nodes"`
}

// runPublish publishes what the lines of its input say, one after the other, and says how each went.
func runPublish(arguments []string) error {
	flags := newFlags("publish")
	linger := flags.Duration("linger", 500*time.Millisecond, "stay alive after the last, for the http broker sends in the background")
	grpc := flags.Bool("grpc", false, "with the gRPC client and server, the default of v2")
	limit := flags.Duration("limit", 2*time.Minute, "end after this time")
	open := registryFlag(flags)
	connect := brokerFlag(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	watchdog(*limit)
	registry, err := open()
	if err != nil {
		return err
	}
	broker, err := connect(registry)
	if err != nil {
		return err
	}
	clients := map[string]gomicro.Client{}
	for encoding, contentType := range map[string]string{
		"json":      contentTypes["json"],
		"jsonproto": contentTypes["json"],
		"proto":     contentTypes["proto"],
		"frame":     "application/octet-stream",
		"grpcjson":  "application/grpc+json",
	} {
		service, err := newService(*grpc, contentType, gomicro.Name("interop-publisher"), gomicro.UseBroker(broker), gomicro.UseRegistry(registry))
		if err != nil {
			return err
		}
		service.Init()
		clients[encoding] = service.Client()
	}
	if err := broker.Connect(); err != nil {
		return err
	}
	report(map[string]interface{}{"ready": true})
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 1<<24)
	for input.Scan() {
		line := map[string]interface{}{"published": true}
		if err := publish(input.Bytes(), clients, broker, registry); err != nil {
			line["error"] = err.Error()
		}
		report(line)
	}
	time.Sleep(*linger)
	return input.Err()
}

// found is how many nodes have been waited for, by topic.
var found = map[string]int{}

func publish(input []byte, clients map[string]gomicro.Client, broker gomicro.Broker, registry gomicro.Registry) error {
	var p publication
	if err := json.Unmarshal(input, &p); err != nil {
		return err
	}
	if p.Fill > 0 {
		p.Data = filled(p.Fill)
	}
	if p.Nodes > found[p.Topic] {
		if err := awaitSubscribers(registry, p.Topic, p.Nodes); err != nil {
			return err
		}
		found[p.Topic] = p.Nodes
	}
	if p.Encoding == "broker" {
		return broker.Publish(p.Topic, &gomicro.Message{Header: p.Header, Body: p.Data})
	}
	client := clients[p.Encoding]
	if client == nil {
		return errors.New("no such encoding: " + p.Encoding)
	}
	var message interface{}
	switch p.Encoding {
	case "json":
		message = &EchoMessage{Text: p.Text, Data: p.Data}
	case "proto", "jsonproto", "grpcjson":
		message = &pb.EchoMessage{Text: p.Text, Data: p.Data}
	case "frame":
		message = &gomicro.Frame{Data: p.Data}
	}
	header := map[string]string{}
	for key, value := range p.Header {
		header[key] = value
	}
	return gomicro.Publish(gomicro.WithMetadata(context.Background(), header), p.Topic, client, message)
}

// awaitSubscribers looks the http broker's nodes up until there are enough for the topic: go-micro's broker asks once,
// takes 100 ms of silence for absence, and from v5 on remembers that for 5 s.
func awaitSubscribers(registry gomicro.Registry, topic string, count int) error {
	for end := time.Now().Add(15 * time.Second); count > 0; time.Sleep(50 * time.Millisecond) {
		records, _ := registry.GetService("micro.http.broker")
		found := 0
		for _, record := range records {
			for _, node := range record.Nodes {
				if node.Metadata["topic"] == topic {
					found++
				}
			}
		}
		if found >= count {
			return nil
		}
		if time.Now().After(end) {
			return errors.New("not enough subscribers in the registry")
		}
	}
	return nil
}

// runTopic makes a Kafka topic.
func runTopic(arguments []string) error {
	flags := newFlags("kafka-topic")
	address := flags.String("address", "127.0.0.1:9092", "address of a broker")
	topic := flags.String("topic", "interop", "topic")
	partitions := flags.Int("partitions", 1, "number of partitions")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	watchdog(20 * time.Second)
	if err := gomicro.CreateKafkaTopic(*address, *topic, *partitions); err != nil {
		return err
	}
	report(map[string]interface{}{"ok": true})
	return nil
}
