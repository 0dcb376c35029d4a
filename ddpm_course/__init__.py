"""Denoising diffusion: a course whose chapters are these modules. What is used most can be imported from here; a name
brings its module along when it is asked for, so `import ddpm_course` costs nothing."""
__version__ = "0.1.0"

_modules = dict(
    core='autocast fork_seeded_rng pick_device rng save_gif save_image_grid show_images',
    data='ImageSet augmentations batches check_dataset cifar10 datasets fashion_mnist image_folder load_data mnist subset '
         'to_float',
    forward='Betas Level add_noise at cosine cosine_betas flow last_time linear_betas prior schedules time_at ve vp',
    denoiser='Denoiser GaussianDenoiser MixtureDenoiser Target diffusion_loss edm find_target targets',
    sampling='Clipped Guided Step Wrapper ddim ddpm draw_samples generate samplers spacings times',
    unet='UNet block_types attention_types',
    pretrained='from_pretrained networks push_to_hub save_pretrained stored_models',
    training='EMA Checkpoints Log Muon ValidationLoss loss_weights lr_schedules min_snr optimizers time_distributions train',
    metrics='Scores evaluate find_reference frechet kid load_reference metrics_from_images',
    config='Config Sampling presets',
    pipeline='build_denoiser load_sets prepare_training',
    experiment='Experiment ExperimentManager trackers')
_home  = {name: module for module, names in _modules.items() for name in names.split()}
__all__ = sorted(_home)

def __getattr__(name):
    from importlib import import_module
    if name in _modules: return import_module(f'{__name__}.{name}')
    if name not in _home: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(import_module(f'{__name__}.{_home[name]}'), name)
    globals()[name] = value
    return value

def command_line():
    "The program `ddpm-course`: Ctrl-C while its modules are imported ends it without a traceback. Returns an exit code"
    try:
        from ddpm_course.cli import main
        return main()
    except KeyboardInterrupt: return 130

def __dir__(): return sorted({*globals(), *_home})
