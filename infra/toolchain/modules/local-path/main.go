// Command local-path provides volumes that are folders of one node: what a cluster on one machine has for disks.
//
// Which node a claim is for is the scheduler's choice, so its storage class must say WaitForFirstConsumer. A claim for
// another node than this program's gets a volume without a folder: simulated nodes mount nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

const provisionerName = "kiban.dev/local-path"

var version = "unknown" // set by the linker

// folders makes a volume of each folder in directory, on the node with this host name.
type folders struct{ directory, node string }

func (f folders) Provision(
	_ context.Context, options controller.ProvisionOptions,
) (*core.PersistentVolume, controller.ProvisioningState, error) {
	if options.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished,
			fmt.Errorf("storage class %s must say WaitForFirstConsumer", options.StorageClass.Name)
	}
	claim := options.PVC
	path := filepath.Join(f.directory, fmt.Sprintf("%s-%s-%s", claim.Namespace, claim.Name, options.PVName))
	if options.SelectedNodeName == f.node {
		if err := makeWritable(path); err != nil {
			return nil, controller.ProvisioningFinished, err
		}
	}
	return &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: options.PVName},
		Spec: core.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: path}},
			NodeAffinity:                  &core.VolumeNodeAffinity{Required: on(options.SelectedNodeName)},
		},
	}, controller.ProvisioningFinished, nil
}

func (f folders) Delete(_ context.Context, volume *core.PersistentVolume) error {
	if volume.Spec.Local == nil || filepath.Dir(filepath.Clean(volume.Spec.Local.Path)) != f.directory {
		return fmt.Errorf("volume %s is no folder in %s; nothing was removed", volume.Name, f.directory)
	}
	return os.RemoveAll(volume.Spec.Local.Path)
}

// makeWritable makes a folder that pods of any user can write: fsGroup is not applied to local volumes.
func makeWritable(path string) error {
	if err := os.Mkdir(path, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(path, 0o777) // Mkdir leaves out what the umask has
}

func on(node string) *core.NodeSelector {
	host := core.NodeSelectorRequirement{Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{node}}
	term := core.NodeSelectorTerm{MatchExpressions: []core.NodeSelectorRequirement{host}}
	return &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{term}}
}

func run() error {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	directory := flag.String("directory", "", "absolute path of the folder that holds the volumes; it must exist")
	node := flag.String("node", "", "name of the node that this machine is, also its kubernetes.io/hostname")
	said := flag.Bool("version", false, "print the version of the provisioner library, and end")
	flag.Parse()
	if *said {
		fmt.Println("local-path", version)
		return nil
	}
	if !filepath.IsAbs(*directory) || *node == "" {
		return fmt.Errorf("-directory %q, -node %q: give an absolute path and a node's name", *directory, *node)
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	volumes := folders{directory: filepath.Clean(*directory), node: *node}
	controller.NewProvisionController(ctx, client, provisionerName, volumes, controller.LeaderElection(false)).Run(ctx)
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "local-path:", err)
		os.Exit(1)
	}
}
