from components.train_refiner.stage import STAGE

STAGE.main()
