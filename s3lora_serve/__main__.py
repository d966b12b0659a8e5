"""``python -m s3lora_serve`` is ``s3lora-serve``, for where the scripts are not on the PATH."""

from s3lora_serve.launch.serve import main

if __name__ == "__main__":  # vLLM's worker processes import the main module again
    main()
