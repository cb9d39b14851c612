// cert-manager's programs in one: certificates with CA and self-signed issuers, the CA injector, the webhook.
//
// Which one it is, it is told by the name that it is called by: controller, cainjector, webhook, as in upstream's
// images. Upstream's own commands are modules of their own, which a module proxy may lack. Like theirs, this module's
// path is below cert-manager's, since what the webhook is made of is internal to it.
//
// One replica each, without leader election. What upstream's chart says of that and of ACME is taken and not used.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"
	core "k8s.io/api/core/v1"
	extensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	registration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metrics "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cert-manager/cert-manager/internal/webhook"
	"github.com/cert-manager/cert-manager/pkg/api"
	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/controller/cainjector"
	"github.com/cert-manager/cert-manager/pkg/util"
	"github.com/cert-manager/cert-manager/pkg/webhook/options"

	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
)

const workers = 5 // a controller; upstream's default, as are the other figures here

// issue runs the controllers that were registered by being imported, answers the chart's probe and gives metrics.
func issue(ctx context.Context, flags *pflag.FlagSet) error {
	namespace := flags.String("cluster-resource-namespace", "cert-manager", "where ClusterIssuers keep their Secrets")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	factory, err := controller.NewContextFactory(ctx, controller.ContextOptions{
		KubernetesAPIQPS:   20,
		KubernetesAPIBurst: 50,
		IssuerOptions:      controller.IssuerOptions{ClusterResourceNamespace: *namespace},
		CertificateOptions: controller.CertificateOptions{
			CopiedAnnotationPrefixes:                 []string{"*", "-kubectl.kubernetes.io/"},
			CertificateRequestMinimumBackoffDuration: time.Hour,
			CertificateRequestMaximumBackoffDuration: 32 * time.Hour,
		},
	})
	if err != nil {
		return err
	}
	shared, err := factory.Build()
	if err != nil {
		return err
	}
	running, ctx := errgroup.WithContext(ctx)
	for name, construct := range controller.Known() {
		one, err := construct(factory)
		if err != nil {
			return fmt.Errorf("controller %s: %w", name, err)
		}
		running.Go(func() error { return one.Run(workers, ctx) })
	}
	kept := shared.SharedInformerFactory.Certmanager().V1()
	shared.Metrics.SetupCertificateCollector(kept.Certificates().Lister())
	shared.Metrics.SetupIssuerCollector(kept.Issuers().Lister())
	shared.Metrics.SetupClusterIssuerCollector(kept.ClusterIssuers().Lister())
	measured, err := net.Listen("tcp", ":9402")
	if err != nil {
		return err
	}
	told := shared.Metrics.NewServer(measured)
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	shared.HTTP01ResourceMetadataInformersFactory.Start(ctx.Done())
	probes := http.NewServeMux()
	probes.HandleFunc("/livez", func(answer http.ResponseWriter, _ *http.Request) { answer.WriteHeader(http.StatusOK) })
	server := &http.Server{Addr: ":9403", Handler: probes, ReadHeaderTimeout: 10 * time.Second}
	running.Go(func() error {
		<-ctx.Done()
		return errors.Join(server.Close(), told.Close())
	})
	running.Go(func() error {
		if err := told.Serve(measured); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	running.Go(func() error {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return running.Wait()
}

// inject runs the CA injector.
func inject(ctx context.Context, flags *pflag.FlagSet) error {
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	// The field manager is named for the user agent, and without a name nothing can be applied.
	manager, err := ctrl.NewManager(util.RestConfigWithUserAgent(config, "cainjector"), ctrl.Options{
		Scheme:  scheme.Scheme,
		Metrics: metrics.Options{BindAddress: "0"},
		// The injector watches the metadata of Secrets only; a cached read would fetch and hold all of them.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&core.Secret{}}}},
	})
	if err != nil {
		return err
	}
	err = cainjector.RegisterAllInjectors(ctx, manager, cainjector.SetupOptions{
		EnableCertificatesDataSource: true,
		EnabledReconcilersFor: map[string]bool{
			cainjector.MutatingWebhookConfigurationName:   true,
			cainjector.ValidatingWebhookConfigurationName: true,
			cainjector.CustomResourceDefinitionName:       true,
			cainjector.APIServiceName:                     true,
		},
	})
	if err != nil {
		return err
	}
	return manager.Start(ctx)
}

// validate runs the webhook; its flags are upstream's.
func validate(ctx context.Context, flags *pflag.FlagSet) error {
	config, err := options.NewWebhookConfiguration()
	if err != nil {
		return err
	}
	options.AddConfigFlags(flags, config)
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	server, err := webhook.NewCertManagerWebhookServer(klog.FromContext(ctx), *config)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

func main() {
	name := filepath.Base(os.Args[0])
	program, known := map[string]func(context.Context, *pflag.FlagSet) error{
		"controller": issue, "cainjector": inject, "webhook": validate,
	}[name]
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("cert-manager", util.AppVersion)
		return
	}
	if !known {
		fmt.Fprintf(os.Stderr, "%s: called by an unknown name; accepted: controller, cainjector, webhook\n", name)
		os.Exit(2)
	}
	utilruntime.Must(api.AddToScheme(scheme.Scheme))
	utilruntime.Must(extensions.AddToScheme(scheme.Scheme))
	utilruntime.Must(registration.AddToScheme(scheme.Scheme))
	ctrl.SetLogger(klog.NewKlogr())
	flags := pflag.NewFlagSet(name, pflag.ExitOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	ctx := klog.NewContext(ctrl.SetupSignalHandler(), klog.NewKlogr())
	if err := program(ctx, flags); err != nil {
		klog.ErrorS(err, "cert-manager ended", "program", name)
		os.Exit(1)
	}
}
