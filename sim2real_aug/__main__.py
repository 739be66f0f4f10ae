"""`python -m sim2real_aug` is `sim2real-aug`."""

from sim2real_aug.cli import main

if __name__ == "__main__":
    main()
