package main

import (
	"time"

	"interop.test/peer/gomicro"
	"interop.test/peer/pb"
)

// bareRegistry leaves the key `protocol` out of what it registers, as programs from before go-micro v2 did.
type bareRegistry struct{ gomicro.Registry }

func (r bareRegistry) Register(record *gomicro.Record, options ...gomicro.RegisterOpt) error {
	for _, node := range record.Nodes {
		delete(node.Metadata, "protocol")
	}
	return r.Registry.Register(record, options...)
}

func runServer(arguments []string) error {
	flags := newFlags("server")
	name := flags.String("name", "greeter", "service name")
	version := flags.String("version", "1.0.0", "service version")
	address := flags.String("address", "127.0.0.1:0", "address to listen on")
	bare := flags.Bool("bare", false, "register without the key protocol")
	limit := flags.Duration("limit", 10*time.Minute, "end after this time")
	open := registryFlag(flags)
	metadata := pairs{}
	flags.Var(metadata, "metadata", "key=value of the node, repeatable")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	watchdog(*limit)

	registry, err := open()
	if err != nil {
		return err
	}
	if *bare {
		registry = bareRegistry{registry}
	}
	var service gomicro.Service
	service = gomicro.NewService(
		"application/json",
		gomicro.Name(*name),
		gomicro.ServiceVersion(*version),
		gomicro.Address(*address),
		gomicro.Metadata(metadata),
		gomicro.UseRegistry(registry),
		gomicro.AfterStart(func() error {
			options := service.Server().Options()
			report(map[string]interface{}{"ready": true, "address": options.Address, "id": options.Name + "-" + options.Id, "goMicro": gomicro.Version})
			return nil
		}),
	)
	service.Init()
	if err := pb.RegisterGreeterHandler(service.Server(), &greeter{service.Client()}); err != nil {
		return err
	}
	if err := pb.RegisterTypesHandler(service.Server(), typesHandler{}); err != nil {
		return err
	}
	if err := gomicro.RegisterHandler(service.Server(), &Plain{service.Client()}); err != nil {
		return err
	}
	return service.Run()
}
