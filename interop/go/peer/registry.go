package main

import (
	"errors"
	"flag"
	"strings"
	"time"

	"interop.test/peer/gomicro"
)

// registryFlag adds -registry, e.g. etcd@127.0.0.1:2379, and gives what opens it once the flags are parsed.
func registryFlag(flags *flag.FlagSet) func() (gomicro.Registry, error) {
	text := flags.String("registry", "mdns", "mdns, etcd@host:port or consul@host:port")
	return func() (gomicro.Registry, error) {
		kind, address, _ := strings.Cut(*text, "@")
		switch kind {
		case "mdns":
			return gomicro.MdnsRegistry(), nil
		case "etcd":
			return gomicro.EtcdRegistry(address), nil
		case "consul":
			return gomicro.ConsulRegistry(address), nil
		}
		return nil, errors.New("no registry is called " + kind)
	}
}

type nodeLine struct {
	ID       string            `json:"id"`
	Address  string            `json:"address"`
	Metadata map[string]string `json:"metadata"`
}

// valueTree is the registry's description of a message in the shape of its JSON.
type recordLine struct {
	Name      string      `json:"name"`
	Version   string      `json:"version"`
	Nodes     []nodeLine  `json:"nodes"`
	Endpoints interface{} `json:"endpoints"`
}

func lineOf(record *gomicro.Record) recordLine {
	line := recordLine{Name: record.Name, Version: record.Version, Nodes: []nodeLine{}, Endpoints: record.Endpoints}
	for _, node := range record.Nodes {
		line.Nodes = append(line.Nodes, nodeLine{node.Id, node.Address, node.Metadata})
	}
	return line
}

// runRegistry prints one look-up, or the list of services.
func runRegistry(arguments []string) error {
	flags := newFlags("registry")
	service := flags.String("service", "", "service to look up; empty lists all")
	open := registryFlag(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	watchdog(20 * time.Second)
	registry, err := open()
	if err != nil {
		return err
	}
	var records []*gomicro.Record
	// Silence for 100 ms is taken for absence, which on a busy machine it is not always.
	for try := 0; try < 20 && len(records) == 0; try++ {
		var err error
		if *service == "" {
			records, err = registry.ListServices()
		} else {
			records, err = registry.GetService(*service)
		}
		if err != nil {
			return err
		}
	}
	lines := []recordLine{}
	for _, record := range records {
		lines = append(lines, lineOf(record))
	}
	report(map[string]interface{}{"ok": true, "services": lines})
	return nil
}

// runWatch prints every event until it is killed.
func runWatch(arguments []string) error {
	flags := newFlags("watch")
	limit := flags.Duration("limit", 2*time.Minute, "end after this time")
	service := flags.String("service", "", "service to watch; empty watches all")
	open := registryFlag(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	watchdog(*limit)
	registry, err := open()
	if err != nil {
		return err
	}
	watcher, err := registry.Watch(gomicro.WatchService(*service))
	if err != nil {
		return err
	}
	report(map[string]interface{}{"ready": true})
	for {
		result, err := watcher.Next()
		if err != nil {
			return errors.New("watch: " + err.Error())
		}
		report(map[string]interface{}{"action": result.Action, "service": lineOf(result.Service)})
	}
}
